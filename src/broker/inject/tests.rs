use super::*;

#[test]
fn p1_secrets_of_8_bytes_are_looked_for_and_shorter_ones_are_not() {
    let found = |secrets: &[&str], answer: &str| {
        let secrets: Vec<_> = secrets.iter().map(|one| SecretBytes::new(one.as_bytes().to_vec())).collect();
        needles(secrets.iter()).map(|needles| needles.scrub_value(answer.as_bytes()).is_some())
    };
    assert_eq!(found(&["8-bytes!"], "it is 8-bytes!"), Some(true));
    assert_eq!(found(&["7-bytes"], "it is 7-bytes"), None);
    assert_eq!(found(&["7-bytes", "8-bytes!"], "it is 7-bytes"), Some(false));
    assert_eq!(found(&["an older one", "8-bytes!"], "it is an older one"), Some(true));
    assert_eq!(found(&["8-bytes!", "8-bytes!"], "it is 8-bytes!"), Some(true));
}

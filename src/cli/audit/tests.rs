use super::for_people;

#[test]
fn a_line_says_who_did_what_on_whose_behalf_and_from_where() {
    let record = r#"{"at":0,"seq":7,"kind":"call.outcome","agent":"ag_1","agent_name":"worker","subject":"ag_2",
        "upstream":"crm","method":"GET","target":"/v1/contacts","status":200,"reason":"completed","client":"192.0.2.7"}"#;
    let expected = "1970-01-01T00:00:00Z      7  call.outcome  worker crm GET /v1/contacts for ag_2 200 (completed) \
                    from 192.0.2.7";
    assert_eq!(for_people(record).unwrap(), expected);
    let own = record.replace("ag_2", "ag_1");
    assert!(!for_people(&own).unwrap().contains(" for "), "on its own behalf");
}

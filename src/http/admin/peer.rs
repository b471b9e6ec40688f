//! Who is at the other end of the admin socket, by what the kernel says of it.

use std::sync::Arc;

/// What `/proc/PID/loginuid` holds of a process that nobody logged in for.
const NOBODY: u32 = u32::MAX;

/// `uid:0`; `uid:0 from uid:1000` where somebody logged in as 1000 and became root since, by `sudo` or `su`.
///
/// The login's user is the kernel's word (its audit subsystem keeps it): a process cannot change it, and no variable of the
/// environment such as `SUDO_USER` is believed. Where the kernel keeps none, as in most containers, the user alone is told.
pub(in crate::http) fn name(uid: u32, pid: Option<i32>) -> Arc<str> {
    let login = pid.and_then(login_uid).filter(|login| *login != NOBODY && *login != uid);
    match login {
        Some(login) => format!("uid:{uid} from uid:{login}").into(),
        None => format!("uid:{uid}").into(),
    }
}

fn login_uid(pid: i32) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_has_a_user_and_no_login() {
        assert_eq!(&*name(7, None), "uid:7");
        assert_eq!(&*name(7, Some(i32::MAX)), "uid:7");
    }

    #[test]
    fn the_kernel_tells_who_logged_in() {
        let own = i32::try_from(std::process::id()).unwrap();
        let Some(login) = login_uid(own).filter(|login| *login != NOBODY) else { return };
        assert_eq!(&*name(login, Some(own)), format!("uid:{login}"));
        assert_eq!(&*name(login + 1, Some(own)), format!("uid:{} from uid:{login}", login + 1));
    }
}

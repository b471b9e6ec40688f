//! Each promise of README.md, kept by tests: one file for each, named for it.

mod p4_no_record_no_call;
mod p6_a_stolen_database_is_no_use;
mod p9_kill_9_loses_nothing_acknowledged;

use super::leave::Leave;
use super::*;

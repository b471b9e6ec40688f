//! Why a target is refused: a code for programs, a sentence for people.

use std::fmt;

macro_rules! target_errors {
    ($($name:ident $code:literal $sentence:literal)*) => {
        /// Why a target is refused; never repeats what was sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum TargetError {$(#[doc = concat!("Says: ", $sentence, ".")] $name,)*}

        impl TargetError {
            /// A stable code that programs may match on.
            pub fn code(self) -> &'static str {
                match self {$(Self::$name => $code,)*}
            }
        }

        /// One sentence for the caller: what was wrong and what to do.
        impl fmt::Display for TargetError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {$(Self::$name => $sentence,)*})
            }
        }
    };
}

target_errors! {
    NotAbsolute "target_not_absolute"
        "the path does not begin with a slash; put one in front"
    PathTooLong "target_path_too_long"
        "the path is longer than 4096 bytes; shorten it or move data into the body"
    QueryTooLong "target_query_too_long"
        "the query is longer than 16384 bytes; shorten it or move data into the body"
    DotSegment "target_dot_segment"
        "the path has a dot segment (plain, encoded or in disguise); send the path resolved"
    EmptySegment "target_empty_segment"
        "the path has an empty segment (two slashes in a row); send one slash"
    PathParameter "target_path_parameter"
        "the path has a semicolon, which some servers cut off; leave it out or write %3B"
    Backslash "target_backslash"
        "the path has a backslash, which some servers read as a slash; use slashes"
    EncodedSlash "target_encoded_slash"
        "the path has an encoded slash where the operation has one segment; name the resource without it, or ask the admin for encoded_slash: true"
    ControlCharacter "target_control_character"
        "there is a control character, raw or percent-encoded; remove it"
    ForbiddenCharacter "target_forbidden_character"
        "there is a character that a URL may not have as it is; percent-encode it as UTF-8"
    Delimiter "target_delimiter"
        "there is a bare ? or # where it does not belong; percent-encode it if it is data, drop it if not"
    PercentEncoding "target_percent_encoding"
        "there is a % without two hex digits behind it; write a literal percent sign as %25"
    DoubleEncoding "target_double_encoding"
        "the path is percent-encoded twice; encode it once"
    NotUtf8 "target_not_utf8"
        "the percent-encoded bytes are not valid UTF-8; encode the text as UTF-8"
    Lookalike "target_lookalike"
        "the path has a character that some servers turn into a dot, slash, backslash or percent sign; remove it"
    RepeatedParameter "target_repeated_parameter"
        "the query parameter that carries the token is there more than once; send it once"
    SemicolonParameter "target_semicolon_parameter"
        "the query parameter that carries the token stands beside a semicolon; separate parameters with &"
}

impl std::error::Error for TargetError {}

//! The `hallpass` program.

/// A call makes and frees some two hundred small blocks, half of them on another thread than the one that made them,
/// which costs glibc's allocator an eighth of all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    hallpass::cli::main()
}

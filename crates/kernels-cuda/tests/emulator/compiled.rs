//! Kernels that are compiled for the processor, to be run as `kernels/emu.h` says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Products of at most so many terms are left to the kernel, so that it is run too.
pub(crate) const SMALL_PRODUCT: usize = 1 << 14;

/// A library that launches these kernels and computes products.
#[allow(dead_code, reason = "not every suite needs both")]
pub(crate) fn compile(source: &str, flags: &[&str]) -> PathBuf {
    library(&registry(source), flags)
}

/// A library that stands for CUDA's driver, cuBLASLt and NCCL.
#[allow(dead_code, reason = "not every suite needs both")]
pub(crate) fn compile_driver(source: &str) -> PathBuf {
    let small = format!("const u64 SMALL_PRODUCT = {SMALL_PRODUCT};\n");
    let all = [&registry(source), &*small, include_str!("driver.cc"), include_str!("nccl.cc")].concat();
    library(&all, &[])
}

/// Flags of a library that the address sanitizer watches.
#[allow(dead_code, reason = "not every suite needs it")]
pub(crate) const SANITIZED: &[&str] = &["-fsanitize=address", "-g1"];

/// The address sanitizer's own library, which has to be in a process before all others; none where the compiler
/// has none.
#[allow(dead_code, reason = "not every suite needs it")]
pub(crate) fn sanitizer() -> Option<PathBuf> {
    let asked = Command::new(compiler()).arg("-print-file-name=libasan.so").output().ok()?;
    let path = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    (path.is_absolute() && path.exists()).then_some(path)
}

/// The C++ compiler.
fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// Why nothing can be compiled, if so.
pub(crate) fn no_compiler() -> Option<String> {
    let compiler = compiler();
    let is_there = Command::new(&compiler).arg("--version").output().is_ok();
    (!is_there).then(|| format!("there is no C++ compiler {compiler:?}"))
}

/// What was compiled before is kept.
fn library(text: &str, flags: &[&str]) -> PathBuf {
    // Tests of one process want the same one at once.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _compiling = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let kernels = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels-cuda/kernels"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut hasher = DefaultHasher::new();
    (text, include_str!("../../kernels/emu.h"), flags).hash(&mut hasher);
    let digest = hasher.finish();
    let kept = dir.join(format!("emulator-{digest:016x}.so"));
    if kept.exists() {
        return kept;
    }
    // What another process compiles is not waited for.
    let name = format!("emulator-{digest:016x}-{}", std::process::id());
    let [source, library] = ["cc", "so"].map(|end| dir.join(format!("{name}.{end}")));
    std::fs::write(&source, text).expect("the emulator's source");
    let output = Command::new(compiler())
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-w"])
        .args(flags)
        .arg("-I")
        .args([kernels, &source, Path::new("-o"), &library])
        .output()
        .expect("the C++ compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&library, &kept).expect("the emulator's library");
    kept
}

/// All kernels, and functions that launch one by its name, at once or later.
fn registry(source: &str) -> String {
    let launches = names(source).into_iter().map(|name| {
        format!(
            "  if (!strcmp(name, \"{name}\")) return emu_with(name, {name}, dim3(grid[0], grid[1], grid[2]), threads, shared, arguments);\n"
        )
    });
    let parts = [source.into(), WITH.into()].into_iter().chain(launches).chain([LAUNCH.into()]);
    parts.collect::<String>() + include_str!("product.cc")
}

/// A launch that has its arguments.
const WITH: &str = r#"
#include <tuple>
template <class... A, size_t... I> std::tuple<A...> emu_arguments(void** from, std::index_sequence<I...>) {
  return std::tuple<A...>(*(A*)from[I]...);
}
template <class... A>
std::function<void()> emu_with(const char* name, void (*kernel)(A...), dim3 grid, unsigned threads, size_t shared, void** from) {
  auto arguments = emu_arguments<A...>(from, std::index_sequence_for<A...>());
  std::string named = name;
  return [=] { emu::launch(named.c_str(), grid, threads, shared, [=] { std::apply(kernel, arguments); }); };
}
std::function<void()> emu_launches(const char* name, const unsigned* grid, unsigned threads, size_t shared, void** arguments) {
"#;

/// The end of the list, and the launch at once.
const LAUNCH: &str = r#"  return nullptr;
}
extern "C" int emu_launch(const char* name, const unsigned* grid, unsigned threads, size_t shared, void** arguments) {
  auto launch = emu_launches(name, grid, threads, shared, arguments);
  return launch ? (launch(), 0) : 1;
}
"#;

/// The kernels that a source defines.
pub(crate) fn names(source: &str) -> Vec<&str> {
    let after = source.split("\nKERNEL(").skip(1).filter_map(|rest| rest.split_once(") "));
    after.map(|(_, name)| name.split('(').next().expect("a name")).collect()
}

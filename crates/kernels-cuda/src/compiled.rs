//! The kernels' machine code: compiled by NVRTC for the chip that there is, and kept in the user's cache, for
//! that takes some seconds.

use crate::source::source;
use cudarc::nvrtc::{result, sys};
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Machine code for a chip of this compute capability.
pub(crate) fn code((major, minor): (i32, i32)) -> Result<Vec<u8>, String> {
    let source = source();
    let options = [
        // What is new in a chip's own architecture is for that chip alone.
        format!("--gpu-architecture=sm_{major}{minor}{}", if major >= 9 { "a" } else { "" }),
        "-std=c++17".into(),
        "-default-device".into(),
    ];
    let kept = kept(&(&source, &options, version()));
    if let Some(code) = kept.as_deref().and_then(|path| std::fs::read(path).ok()) {
        return Ok(code);
    }
    let code = compile(source, &options)?;
    if let Some(path) = kept {
        keep(&path, &code);
    }
    Ok(code)
}

/// The compiler's version; another one makes other code.
fn version() -> (i32, i32) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are integers to be written.
    let known = unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result();
    known.map_or((0, 0), |()| (major, minor))
}

/// Where code that is made of this is kept; nowhere for users without a directory.
fn kept(of: &impl Hash) -> Option<PathBuf> {
    let of_user = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = of_user("XDG_CACHE_HOME").or_else(|| Some(of_user("HOME")?.join(".cache")))?;
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    Some(cache.join(format!("mynah/kernels/{:016x}.cubin", hasher.finish())))
}

/// Keeps code for the next time, whole or not at all. Where that fails, it is compiled again.
fn keep(path: &Path, code: &[u8]) {
    let Some(dir) = path.parent() else { return };
    let new = dir.join(format!("{}.new", std::process::id()));
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&new, code));
    if written.and_then(|()| std::fs::rename(&new, path)).is_err() {
        let _ = std::fs::remove_file(new);
    }
}

fn compile(source: String, options: &[String]) -> Result<Vec<u8>, String> {
    let source = CString::new(source).expect("a source without zeros");
    let failed = |what: &str| format!("NVRTC does not compile the kernels: {what}");
    let program =
        result::create_program(&source, Some(c"kernels.cu")).map_err(|e| failed(&format!("{e:?}")))?;
    // SAFETY: the program was just made, and is destroyed at the end.
    unsafe {
        if let Err(e) = result::compile_program(program, options) {
            let log = result::get_program_log(program).unwrap_or_default();
            let log: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
            return Err(failed(&format!("{e:?}\n{}", String::from_utf8_lossy(&log))));
        }
        let mut size = 0;
        let mut code = Vec::new();
        let read = sys::nvrtcGetCUBINSize(program, &mut size).result().and_then(|()| {
            code = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()
        });
        read.map_err(|e| failed(&format!("{e:?}")))?;
        result::destroy_program(program).map_err(|e| failed(&format!("{e:?}")))?;
        Ok(code)
    }
}

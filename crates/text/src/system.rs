//! What operating systems call differently. Everything else is the same on all of them, but for the sandbox,
//! which is made of parts of Linux.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Fills `buffer` from byte `offset` of a file on. The file's own place may move on Windows, so nobody else
/// reads it from there.
///
/// # Errors
/// The file is shorter, or cannot be read.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(windows)]
    {
        let (mut buffer, mut offset) = (buffer, offset);
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => (buffer, offset) = (&mut buffer[n..], offset + n as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Waits until the names in a directory are on the disk. Windows has no such request: its journal keeps names
/// in order.
///
/// # Errors
/// The directory cannot be opened, or the disk refuses.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { File::open(dir)?.sync_all() }
}

/// Makes `link` lead to `contents`, by the path `target` from where it lies. Windows reserves symbolic links
/// to administrators: there it is a second name of the same file.
///
/// # Errors
/// `link` is there already, or cannot be made.
pub fn link_file(target: &str, contents: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return {
        let _ = contents;
        std::os::unix::fs::symlink(target, link)
    };
    #[cfg(windows)]
    return {
        let _ = target;
        std::fs::hard_link(contents, link)
    };
}

/// Whether two paths are one file or directory by whatever names: relative, through links, or hard links.
/// Nothing is opened where the system can tell without: opening a pipe would wait for its other end.
pub fn is_same_file(a: (&Path, &Metadata), b: (&Path, &Metadata)) -> bool {
    #[cfg(unix)]
    return {
        use std::os::unix::fs::MetadataExt;
        (a.1.dev(), a.1.ino()) == (b.1.dev(), b.1.ino())
    };
    #[cfg(windows)]
    return same_file::is_same_file(a.0, b.0).unwrap_or(false);
}

/// Standard output as a file of its own, which outlives nobody's lock on the stream.
///
/// # Errors
/// It is closed.
pub fn standard_output() -> io::Result<File> {
    #[cfg(unix)]
    return std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned().map(File::from);
    #[cfg(windows)]
    return std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned().map(File::from);
}

/// Whether something is what standard output goes to. Only paths such as `/dev/fd/1` can be, which Windows has
/// not.
pub fn is_standard_output(about: &Metadata) -> bool {
    #[cfg(unix)]
    return standard_output().and_then(|out| out.metadata()).is_ok_and(|out| {
        use std::os::unix::fs::MetadataExt;
        (about.dev(), about.ino()) == (out.dev(), out.ino())
    });
    #[cfg(windows)]
    return {
        let _ = about;
        false
    };
}

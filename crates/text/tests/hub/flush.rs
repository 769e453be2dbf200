//! A disk that does not flush: `fsync` and `fdatasync` fail, for one thread and for good.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// What `work` comes to in a thread in which `call` (`libc::SYS_fsync`, `libc::SYS_fdatasync`) fails, of this
/// file descriptor or of all.
pub(crate) fn without<R: Send>(call: i64, descriptor: Option<u64>, work: impl FnOnce() -> R + Send) -> R {
    let is = |fd| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, fd).unwrap();
    let rules = descriptor.map(|fd| SeccompRule::new(vec![is(fd)]).unwrap()).into_iter().collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let refused = SeccompAction::Errno(libc::EIO as u32);
    let filter = SeccompFilter::new(BTreeMap::from([(call, rules)]), SeccompAction::Allow, refused, arch);
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            apply_filter(&program).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

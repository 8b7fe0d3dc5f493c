//! Calls on files and what is mounted.

use std::os::fd::AsRawFd as _;

use syscalls::{Sysno, syscall};

use super::{Fixture, HERE, NAME, Outcomes, closed, mount};

sweep! {
    fn creat(f) {
        closed(sys!(creat, f.file.as_ptr(), 0o600))
    }
    fn openat2(f) {
        let how = [0_u64; 3];
        closed(sys!(openat2, HERE, f.file.as_ptr(), how.as_ptr(), 24))
    }
    fn open_by_handle_at(f) {
        closed(sys!(open_by_handle_at,
 f.beside.as_raw_fd(), f.handle.as_ptr(), libc::O_RDONLY))
    }
    fn readv(f) {
        let mut bytes = [b'x'; 8];
        let part = [bytes.as_mut_ptr() as usize, bytes.len()];
        sys!(lseek, f.open.as_raw_fd(), 0, libc::SEEK_SET)?;
        sys!(readv, f.open.as_raw_fd(), part.as_ptr(), 1).map(drop)
    }
    fn preadv(f) {
        let mut bytes = [b'x'; 8];
        let part = [bytes.as_mut_ptr() as usize, bytes.len()];
        sys!(preadv, f.open.as_raw_fd(), part.as_ptr(), 1, 0, 0).map(drop)
    }
    fn preadv2(f) {
        let mut bytes = [b'x'; 8];
        let part = [bytes.as_mut_ptr() as usize, bytes.len()];
        sys!(preadv2, f.open.as_raw_fd(), part.as_ptr(), 1, 0, 0, 0).map(drop)
    }
    fn writev(f) {
        let mut bytes = [b'x'; 8];
        let part = [bytes.as_mut_ptr() as usize, bytes.len()];
        sys!(lseek, f.open.as_raw_fd(), 0, libc::SEEK_SET)?;
        sys!(writev, f.open.as_raw_fd(), part.as_ptr(), 1).map(drop)
    }
    fn pwritev(f) {
        let mut bytes = [b'x'; 8];
        let part = [bytes.as_mut_ptr() as usize, bytes.len()];
        sys!(pwritev, f.open.as_raw_fd(), part.as_ptr(), 1, 0, 0).map(drop)
    }
    fn pwritev2(f) {
        let mut bytes = [b'x'; 8];
        let part = [bytes.as_mut_ptr() as usize, bytes.len()];
        sys!(pwritev2, f.open.as_raw_fd(), part.as_ptr(), 1, 0, 0, 0).map(drop)
    }
    fn pread64(f) {
        let mut bytes = [b'x'; 8];
        sys!(pread64, f.open.as_raw_fd(), bytes.as_mut_ptr(), bytes.len(), 0).map(drop)
    }
    fn pwrite64(f) {
        let mut bytes = [b'x'; 8];
        sys!(pwrite64, f.open.as_raw_fd(), bytes.as_mut_ptr(), bytes.len(), 0).map(drop)
    }
    fn getdents(f) {
        let mut bytes = [0_u64; 128];
        sys!(lseek, f.folder.as_raw_fd(), 0, libc::SEEK_SET)?;
        sys!(getdents, f.folder.as_raw_fd(), bytes.as_mut_ptr(), size_of_val(&bytes)).map(drop)
    }
    fn getdents64(f) {
        let mut bytes = [0_u64; 128];
        sys!(lseek, f.folder.as_raw_fd(), 0, libc::SEEK_SET)?;
        sys!(getdents64, f.folder.as_raw_fd(), bytes.as_mut_ptr(), size_of_val(&bytes)).map(drop)
    }
    fn fallocate(f) {
        sys!(fallocate, f.open.as_raw_fd(), 0, 0, 64).map(drop)
    }
    fn lstat(f) {
        let mut stat = [0_u64; 32];
        sys!(lstat, f.file.as_ptr(), stat.as_mut_ptr()).map(drop)
    }
    fn fstat(f) {
        let mut stat = [0_u64; 32];
        sys!(fstat, f.open.as_raw_fd(), stat.as_mut_ptr()).map(drop)
    }
    fn newfstatat(f) {
        let mut stat = [0_u64; 32];
        sys!(newfstatat, HERE, f.file.as_ptr(), stat.as_mut_ptr(), 0).map(drop)
    }
    fn statx(f) {
        let mut stat = [0_u64; 32];
        sys!(statx, HERE, f.file.as_ptr(), 0, 0x7ff, stat.as_mut_ptr()).map(drop)
    }
    fn readlink(f) {
        let mut text = [0_u8; 256];
        sys!(readlink, f.link.as_ptr(), text.as_mut_ptr(), text.len()).map(drop)
    }
    fn readlinkat(f) {
        let mut text = [0_u8; 256];
        sys!(readlinkat, HERE, f.link.as_ptr(), text.as_mut_ptr(), text.len()).map(drop)
    }
    fn rmdir(f) {
        let _ = sys!(mkdir, f.doomed.as_ptr(), 0o700);
        sys!(rmdir, f.doomed.as_ptr()).map(drop)
    }
    fn unlinkat(f) {
        let _ = sys!(mkdir, f.doomed.as_ptr(), 0o700);
        sys!(unlinkat, HERE, f.doomed.as_ptr(), libc::AT_REMOVEDIR).map(drop)
    }
    fn renameat(f) {
        f.renamed(sys!(renameat, HERE, f.file.as_ptr(), HERE, f.fresh.as_ptr()))
    }
    fn renameat2(f) {
        f.renamed(sys!(renameat2, HERE, f.file.as_ptr(), HERE, f.fresh.as_ptr(), 0))
    }
    fn mkdirat(f) {
        sys!(mkdirat, HERE, f.fresh.as_ptr(), 0o700)?;
        sys!(rmdir, f.fresh.as_ptr()).map(drop)
    }
    fn mknod(f) {
        f.unlinked(sys!(mknod, f.fresh.as_ptr(), libc::S_IFREG | 0o600, 0))
    }
    fn mknodat(f) {
        f.unlinked(sys!(mknodat, HERE, f.fresh.as_ptr(), libc::S_IFREG | 0o600, 0))
    }
    fn link(f) {
        f.unlinked(sys!(link, f.file.as_ptr(), f.fresh.as_ptr()))
    }
    fn linkat(f) {
        f.unlinked(sys!(linkat, HERE, f.file.as_ptr(), HERE, f.fresh.as_ptr(), 0))
    }
    fn symlink(f) {
        f.unlinked(sys!(symlink, f.file.as_ptr(), f.fresh.as_ptr()))
    }
    fn symlinkat(f) {
        f.unlinked(sys!(symlinkat, f.file.as_ptr(), HERE, f.fresh.as_ptr()))
    }
    fn chmod(f) {
        sys!(chmod, f.file.as_ptr(), 0o600).map(drop)
    }
    fn fchmod(f) {
        sys!(fchmod, f.open.as_raw_fd(), 0o600).map(drop)
    }
    fn fchmodat(f) {
        sys!(fchmodat, HERE, f.file.as_ptr(), 0o600).map(drop)
    }
    fn chown(f) {
        sys!(chown, f.file.as_ptr(), 0, 0).map(drop)
    }
    fn fchown(f) {
        sys!(fchown, f.open.as_raw_fd(), 0, 0).map(drop)
    }
    fn lchown(f) {
        sys!(lchown, f.link.as_ptr(), 0, 0).map(drop)
    }
    fn fchownat(f) {
        sys!(fchownat, HERE, f.file.as_ptr(), 0, 0, 0).map(drop)
    }
    fn truncate(f) {
        sys!(truncate, f.file.as_ptr(), 64).map(drop)
    }
    fn ftruncate(f) {
        sys!(ftruncate, f.open.as_raw_fd(), 64).map(drop)
    }
    fn chroot(_fixture) {
        sys!(chroot, c"/".as_ptr()).map(drop)
    }
    fn inotify_add_watch(f) {
        sys!(inotify_add_watch, f.inotify.as_raw_fd(), f.file.as_ptr(), libc::IN_OPEN).map(drop)
    }
    fn setxattr(f) {
        sys!(setxattr, f.file.as_ptr(), NAME.as_ptr(), c"y".as_ptr(), 1, 0).map(drop)
    }
    fn getxattr(f) {
        let mut value = [0_u8; 8];
        sys!(getxattr, f.file.as_ptr(), NAME.as_ptr(), value.as_mut_ptr(), value.len()).map(drop)
    }
    fn listxattr(f) {
        let mut names = [0_u8; 256];
        sys!(listxattr, f.file.as_ptr(), names.as_mut_ptr(), names.len()).map(drop)
    }
    fn removexattr(f) {
        f.attributed(sys!(removexattr, f.file.as_ptr(), NAME.as_ptr()))
    }
    fn lsetxattr(f) {
        sys!(lsetxattr, f.file.as_ptr(), NAME.as_ptr(), c"y".as_ptr(), 1, 0).map(drop)
    }
    fn lgetxattr(f) {
        let mut value = [0_u8; 8];
        sys!(lgetxattr, f.file.as_ptr(), NAME.as_ptr(), value.as_mut_ptr(), value.len()).map(drop)
    }
    fn llistxattr(f) {
        let mut names = [0_u8; 256];
        sys!(llistxattr, f.file.as_ptr(), names.as_mut_ptr(), names.len()).map(drop)
    }
    fn lremovexattr(f) {
        f.attributed(sys!(lremovexattr, f.file.as_ptr(), NAME.as_ptr()))
    }
    fn fsetxattr(f) {
        sys!(fsetxattr, f.open.as_raw_fd(), NAME.as_ptr(), c"y".as_ptr(), 1, 0).map(drop)
    }
    fn fgetxattr(f) {
        let mut value = [0_u8; 8];
        sys!(fgetxattr, f.open.as_raw_fd(), NAME.as_ptr(), value.as_mut_ptr(), value.len()).map(drop)
    }
    fn flistxattr(f) {
        let mut names = [0_u8; 256];
        sys!(flistxattr, f.open.as_raw_fd(), names.as_mut_ptr(), names.len()).map(drop)
    }
    fn fremovexattr(f) {
        f.attributed(sys!(fremovexattr, f.open.as_raw_fd(), NAME.as_ptr()))
    }
    fn mount(f) {
        mount(&f.empty)?;
        sys!(umount2, f.empty.as_ptr(), libc::MNT_DETACH).map(drop)
    }
    fn umount2(f) {
        sys!(umount2, f.mounted.as_ptr(), libc::MNT_DETACH)?;
        mount(&f.mounted).map(drop)
    }
    fn fcntl(f) {
        sys!(fcntl, f.open.as_raw_fd(), libc::F_GETFL, 0).map(drop)
    }
    fn flock(f) {
        sys!(flock, f.open.as_raw_fd(), libc::LOCK_SH).map(drop)
    }
    fn ioctl(f) {
        sys!(ioctl, f.open.as_raw_fd(), libc::FIOCLEX, 0).map(drop)
    }
}

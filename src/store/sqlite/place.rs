//! Where a store lies: whose its folder and its file are, who else may reach them, and on which file system.
//! Looks before anything is opened, and changes nothing but the name that an interrupted creation left.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::files::{APPLICATION_ID, beside};
use crate::store::OpenError;

/// Makes the folder of a new store, and refuses one that is not fit for it.
pub(in crate::store) fn prepare(path: &Path) -> Result<(), OpenError> {
    let folder = folder(path);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| {
        OpenError::new(
            format!("cannot make the folder {}: {source}", folder.display()),
            "choose a --data-dir that you may write",
        )
    })?;
    check_folder(folder)
}

/// Where a vault's file really lies: one vault has one lock, whatever links lead to it. Refuses what is not
/// a store of ours, and what others may reach, before anything is written beside it.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let (path, metadata) = find(path)?;
    check_place(&path, &metadata)?;
    // A creation that was cut off between its last two steps left its draft's name behind.
    let left_over =
        is_left_over(&path, &metadata) && fs::remove_file(beside(&path, ".new")).is_ok();
    check_names(&path, metadata.nlink() - u64::from(left_over))?;
    Ok(path)
}

/// The file behind all links, if it is a store of ours.
pub(in crate::store) fn find(path: &Path) -> Result<(PathBuf, fs::Metadata), OpenError> {
    let path = path.canonicalize().map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => not_ours(path, &source),
        _ => OpenError::new(
            format!("there is no vault at {}", path.display()),
            "make one with `credvault init`, or try `credvault dev`",
        ),
    })?;
    let metadata = check_header(&path)?;
    Ok((path, metadata))
}

/// Everything that [`resolve`] would refuse of a store of ours, and not only the first.
pub(in crate::store) fn place_problems(path: &Path) -> Vec<OpenError> {
    let Ok((path, metadata)) = find(path) else { return Vec::new() };
    let names = metadata.nlink() - u64::from(is_left_over(&path, &metadata));
    let checks = [
        check_owner(&path, &metadata),
        check_mode(&path, &metadata),
        check_folder(folder(&path)),
        check_names(&path, names),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

fn check_place(path: &Path, metadata: &fs::Metadata) -> Result<(), OpenError> {
    check_owner(path, metadata)?;
    check_mode(path, metadata)?;
    check_folder(folder(path))
}

fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), OpenError> {
    if metadata.mode() & 0o077 != 0 {
        return Err(OpenError::new(
            format!("others may read {} (mode {:04o})", path.display(), metadata.mode() & 0o7777),
            format!("run `chmod 600 {}`", path.display()),
        ));
    }
    Ok(())
}

fn is_left_over(path: &Path, metadata: &fs::Metadata) -> bool {
    let same =
        |other: &fs::Metadata| other.ino() == metadata.ino() && other.dev() == metadata.dev();
    fs::metadata(beside(path, ".new")).is_ok_and(|other| same(&other))
}

fn check_names(path: &Path, names: u64) -> Result<(), OpenError> {
    if names <= 1 {
        return Ok(());
    }
    Err(OpenError::new(
        format!("{} has a second name (a hard link)", path.display()),
        "remove that name: two processes could open the vault under two names at once",
    ))
}

fn check_header(path: &Path) -> Result<fs::Metadata, OpenError> {
    let read = || -> std::io::Result<([u8; 72], fs::Metadata)> {
        let file = File::open(path)?;
        let mut header = [0; 72];
        file.read_exact_at(&mut header, 0)?;
        Ok((header, file.metadata()?))
    };
    // SQLite's header: its magic first, the application id at 68 (fileformat2.html §1.3).
    let ours = |header: &[u8; 72]| {
        header.starts_with(b"SQLite format 3\0") && header.ends_with(&APPLICATION_ID.to_be_bytes())
    };
    match read() {
        Ok((header, metadata)) if ours(&header) => Ok(metadata),
        Err(source) if source.kind() == ErrorKind::PermissionDenied => Err(not_ours(path, &source)),
        _ => Err(OpenError::new(
            format!("{} is not a Credvault store", path.display()),
            "check --data-dir and --store; a new vault is made with `credvault init`",
        )),
    }
}

fn not_ours(path: &Path, source: &std::io::Error) -> OpenError {
    OpenError::new(
        format!("cannot open {}: {source}", path.display()),
        "run as the user that owns the vault",
    )
}

/// A store's folder must be its owner's alone: who may write there can put another file in place of ours.
fn check_folder(folder: &Path) -> Result<(), OpenError> {
    let unusable = |source: &dyn std::fmt::Display| {
        OpenError::new(
            format!("cannot look at the folder {}: {source}", folder.display()),
            "check the disk and who may reach the folder",
        )
    };
    let metadata = fs::metadata(folder).map_err(|source| unusable(&source))?;
    check_owner(folder, &metadata)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(OpenError::new(
            format!(
                "others may use the folder {} of the vault (mode {:04o})",
                folder.display(),
                metadata.mode() & 0o7777
            ),
            format!("run `chmod 700 {}`", folder.display()),
        ));
    }
    match file_system(folder).map_err(|source| unusable(&source))? {
        Some(network) => Err(OpenError::new(
            format!("the folder {} is on {network}, where SQLite loses data", folder.display()),
            "keep the vault on a disk of this machine: choose another --data-dir",
        )),
        None => Ok(()),
    }
}

/// Another owner could replace or open the file to others at any time. Root is no exception: a file that it does not
/// own was most likely not meant for it, and what SQLite makes beside it would lock its owner out.
fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), OpenError> {
    let us = rustix::process::geteuid().as_raw();
    let Some(problem) = of_another(metadata.uid(), us) else { return Ok(()) };
    Err(OpenError::new(
        format!("{} {problem}", path.display()),
        format!("run as that user, or `chown {us} {}`", path.display()),
    ))
}

fn of_another(owner: u32, us: u32) -> Option<String> {
    (owner != us).then(|| format!("belongs to user {owner}, and this process runs as user {us}"))
}

/// The folder that a file lies in.
pub(in crate::store) fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// What a folder is on, if that is not a disk of this machine.
#[cfg(target_os = "linux")]
pub(super) fn file_system(folder: &Path) -> std::io::Result<Option<&'static str>> {
    // The word is signed on some machines and not on others; every magic number has 32 bits.
    let magic = rustix::fs::statfs(folder)?.f_type;
    let [a, b, c, d, ..] = magic.to_le_bytes();
    Ok(network(u32::from_le_bytes([a, b, c, d])))
}

/// Elsewhere nobody is asked: WAL, which needs shared memory, refuses most of them.
#[cfg(not(target_os = "linux"))]
pub(super) fn file_system(_: &Path) -> std::io::Result<Option<&'static str>> {
    Ok(None)
}

/// File systems whose memory or locks are not shared by all who mount them (statfs(2), `f_type`): WAL needs both
/// (sqlite.org/wal.html), and one of them at least would let a second machine in.
#[cfg(any(target_os = "linux", test))]
fn network(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "a network file system (NFS)",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "a network file system (SMB)",
        0x0102_1997 => "a network file system (9P)",
        0x00c3_6400 => "a network file system (Ceph)",
        0x5346_414f | 0x6b41_4653 => "a network file system (AFS)",
        0x0bd0_0bd0 => "a network file system (Lustre)",
        0x6573_5546 => "a file system in user space (FUSE)",
        0x786f_4256 => "a folder shared with a virtual machine (vboxsf)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_no_place_for_a_vault_and_a_disk_is() {
        for magic in [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546] {
            assert!(network(magic).is_some(), "{magic:x}");
        }
        // ext4, XFS, Btrfs, ZFS, tmpfs, overlayfs.
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network(magic), None, "{magic:x}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(file_system(dir.path()).unwrap(), None, "where tests run is a disk");
    }

    #[test]
    fn only_its_owner_opens_a_store() {
        assert_eq!(of_another(1000, 1000), None);
        assert_eq!(of_another(0, 0), None);
        for (owner, us) in [(1000, 0), (0, 1000), (1000, 1001)] {
            let problem = of_another(owner, us).unwrap();
            assert!(
                problem.contains(&format!("user {owner},"))
                    && problem.ends_with(&format!("user {us}"))
            );
        }
    }
}

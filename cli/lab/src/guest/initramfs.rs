//! The first root of the guest under QEMU: this program, its libraries and the modules for the
//! mount of the host's root, in the kernel's format
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The modes of a regular file and a directory.
const FILE: u32 = 0o100_755;
const DIRECTORY: u32 = 0o040_755;
/// The directory of libraries, the guest's `LD_LIBRARY_PATH`.
pub(super) const LIBRARIES: &str = "/lib";
/// The directory of modules, which are named by their load order.
pub(super) const MODULES: &str = "/modules";
/// The program.
pub(super) const INIT: &str = "/init";

/// A cpio archive in the "new ASCII" format.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<PathBuf>,
    inode: u32,
}

impl Archive {
    /// Adds a file and its directories.
    fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let above: Vec<&Path> = path.ancestors().skip(1).filter(|above| above.parent().is_some()).collect();
        for directory in above.into_iter().rev() {
            if self.directories.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY, &[])?;
            }
        }
        self.entry(path, FILE, content)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
        self.inode += 1;
        self.write(&name, self.inode, mode, content)
    }

    fn write(&mut self, name: &str, inode: u32, mode: u32, content: &[u8]) -> io::Result<()> {
        let length = |octets: usize| u32::try_from(octets).map_err(io::Error::other);
        let (size, name_size) = (length(content.len())?, length(name.len() + 1)?);
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, device of the file and of what it stands
        // for, name, checksum.
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.write("TRAILER!!!", 0, 0, &[])?;
        Ok(self.bytes)
    }
}

/// Packs a program that is linked as this process is, and modules in their load order.
///
/// # Errors
/// A file can't be read.
pub(super) fn pack(program: &Path, modules: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    // The kernel does not create the directory of its console.
    archive.file(Path::new("/dev/.keep"), &[])?;
    archive.file(Path::new(INIT), &fs::read(program)?)?;
    for library in libraries(&fs::read_to_string("/proc/self/maps")?) {
        let content = fs::read(&library)?;
        let name = library.file_name().unwrap_or_default();
        archive.file(&Path::new(LIBRARIES).join(name), &content)?;
        if name.to_string_lossy().starts_with("ld-linux") {
            // The program names the loader by this path.
            archive.file(&Path::new("/lib64").join(name), &content)?;
        }
    }
    for (order, module) in modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&Path::new(MODULES).join(format!("{order:02}-{name}")), &fs::read(module)?)?;
    }
    archive.finish()
}

/// Returns the libraries that a process has mapped, including its loader.
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.starts_with('/') && path.contains(".so"))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_found_by_the_fields_of_the_format() {
        let directory = tempfile::tempdir().expect("a directory");
        let (program, module) = (directory.path().join("program"), directory.path().join("x.ko"));
        fs::write(&program, "the program").expect("written");
        fs::write(&module, "abc").expect("written");
        let bytes = pack(&program, &[module]).expect("packed");
        let mut at = 0;
        let mut found = Vec::new();
        loop {
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                let text = std::str::from_utf8(&bytes[start..start + 8]).expect("ASCII");
                usize::from_str_radix(text, 16).expect("hexadecimal")
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (field(6), field(11));
            let name = at + 110;
            let content = (name + name_size).next_multiple_of(4);
            let text = std::str::from_utf8(&bytes[name..name + name_size - 1]).expect("a name").to_owned();
            if text == "TRAILER!!!" {
                break;
            }
            found.push((text, bytes[content..content + size].to_vec()));
            at = (content + size).next_multiple_of(4);
        }
        let content = |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, c)| c.as_slice());
        assert_eq!(content("init"), Some(&b"the program"[..]));
        assert_eq!(content("modules/00-x.ko"), Some(&b"abc"[..]));
        assert!(found.iter().any(|(name, _)| name.starts_with("lib/libc.so")), "{found:?}");
        let place = |name: &str| found.iter().position(|(n, _)| n == name);
        assert!(place("modules") < place("modules/00-x.ko"), "a directory comes before what is in it");
    }

    #[test]
    fn mapped_libraries_are_told_from_everything_else() {
        let maps = "55d0-55d1 r--p 00000000 08:01 1 /usr/bin/x\n7f00-7f01 r-xp 0 08:01 2 /usr/lib/libc.so.6\n\
                    7f01-7f02 r-xp 0 08:01 2 /usr/lib/libc.so.6\n7ffe-7fff rw-p 0 00:00 0 [stack]\n7f03-7f04 rw-p 0 00:00 0\n";
        assert_eq!(libraries(maps), BTreeSet::from([PathBuf::from("/usr/lib/libc.so.6")]));
    }
}

//! Loading of the guest kernel's modules without `modprobe`, which a minimal machine may lack.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
};

/// The directories of modules in Debian's packages: for User-Mode Linux, and for other kernels.
const DIRECTORIES: [&str; 2] = ["/usr/lib/uml/modules", "/lib/modules"];

/// The modules of one kernel release.
pub(super) struct Modules {
    directory: PathBuf,
    /// The file of each module and its dependencies, by name. `modules.dep` lists them
    /// transitively.
    files: HashMap<String, (PathBuf, Vec<PathBuf>)>,
    builtin: Vec<String>,
}

impl Modules {
    /// Reads `modules.dep` and `modules.builtin` of a release.
    pub(super) fn of(release: &str) -> io::Result<Self> {
        let [uml, other] = DIRECTORIES.map(|directory| Self::below(Path::new(directory), release));
        uml.or(other)
    }

    /// Reads the modules below a directory.
    pub(super) fn below(root: &Path, release: &str) -> io::Result<Self> {
        let directory = root.join(release);
        let dependencies = fs::read_to_string(directory.join("modules.dep"))?;
        let builtin = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        let files = parse(&dependencies);
        Ok(Self { directory, files, builtin: builtin.lines().map(name).collect() })
    }

    /// Returns the files of a module and its dependencies in load order; empty for a module
    /// that is built in. `None` if the kernel has no such module.
    pub(super) fn files_of(&self, module: &str) -> Option<Vec<PathBuf>> {
        match self.files.get(module) {
            // The last dependency is the one that needs none of the others.
            Some((file, dependencies)) => {
                let files = dependencies.iter().rev().chain([file]);
                Some(files.map(|file| self.directory.join(file)).collect())
            }
            None => self.builtin.iter().any(|b| b == module).then(Vec::new),
        }
    }

    /// Loads a module and its dependencies. A built-in module needs no loading.
    pub(super) fn load(&self, module: &str) -> io::Result<()> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "the kernel has no such module");
        self.files_of(module).ok_or_else(none)?.iter().try_for_each(|file| load_file(file))
    }
}

/// Loads a module, unless it is loaded already.
pub(super) fn load_file(file: &Path) -> io::Result<()> {
    match finit_module(&File::open(file)?, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Parses a line of `modules.dep`: `kernel/net/ipv4/ipip.ko: kernel/net/ipv4/tunnel4.ko ...`
fn parse(dependencies: &str) -> HashMap<String, (PathBuf, Vec<PathBuf>)> {
    dependencies
        .lines()
        .filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            let needs = needs.split_whitespace().map(PathBuf::from).collect();
            Some((name(file), (PathBuf::from(file), needs)))
        })
        .collect()
}

/// Returns the name of a module: the file name with underscores.
fn name(file: &str) -> String {
    let stem = file.rsplit('/').next().unwrap_or(file);
    stem.split('.').next().unwrap_or(stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_dep_gives_the_file_and_its_dependencies_in_order() {
        let files = parse("kernel/net/a-b.ko: kernel/x.ko kernel/y.ko\nkernel/x.ko:\ngarbage\n");
        assert_eq!(files.len(), 2);
        let (file, needs) = &files["a_b"];
        assert_eq!(file, Path::new("kernel/net/a-b.ko"));
        assert_eq!(needs, &[PathBuf::from("kernel/x.ko"), PathBuf::from("kernel/y.ko")]);
    }
}

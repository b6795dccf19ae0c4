//! Two things, each only when asked for: the kernels compiled for the CPU with the stand-in driver (feature `stand-in`), and compiled
//! kernels to embed (`CTKVR_CUDA_KERNELS`, a folder that scripts/kernels fills). Without either this crate builds anywhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CTKVR_CUDA_KERNELS");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    embed(&out);
    if env::var_os("CARGO_FEATURE_STAND_IN").is_some() {
        let library = stand_in::build(&out);
        println!("cargo:rustc-env=CTKVR_STAND_IN_LIBRARY={library}");
    }
}

/// Writes `images.rs`: a list of (file, target, bytes), empty when there are none.
fn embed(out: &Path) {
    let mut list = String::from("&[\n");
    if let Some(folder) = env::var_os("CTKVR_CUDA_KERNELS").filter(|f| !f.is_empty()) {
        let folder = fs::canonicalize(&folder).unwrap_or_else(|e| panic!("CTKVR_CUDA_KERNELS {}: {e}", folder.display()));
        println!("cargo:rerun-if-changed={}", folder.display());
        for path in files(&folder, &["cubin", "ptx"]) {
            let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
            let Some((file, target)) = name.split_once('.') else { continue };
            list += &format!(
                "    Image {{ file: {file:?}, target: {target:?}, bytes: include_bytes!({:?}) }},\n",
                path.display().to_string()
            );
        }
    }
    list += "]\n";
    fs::write(out.join("images.rs"), list).expect("OUT_DIR can be written");
}

/// Files of a folder with one of these extensions, by name.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)));
    paths.sort();
    paths
}

mod stand_in {
    use super::*;
    use std::sync::Mutex;

    /// C++ to be compiled.
    struct Unit {
        source: PathBuf,
        object: PathBuf,
        is_kernel: bool,
    }

    /// Compiles `kernels/*.cu` and `stand-in/` into a library; its path, or an empty string where there is no compiler for it.
    pub fn build(out: &Path) -> String {
        // What is compiled in another way lies beside it: to go from one to another compiles nothing again.
        let out = &out.join(sanitizer().unwrap_or_else(|| if counts_bytes() { "ledger" } else { "plain" }.into()));
        fs::create_dir_all(out).expect("OUT_DIR can be written");
        for folder in ["kernels", "stand-in"] {
            println!("cargo:rerun-if-changed={folder}");
        }
        for variable in ["CXX", "CTKVR_STAND_IN_SANITIZE", "CTKVR_STAND_IN_ONLY"] {
            println!("cargo:rerun-if-env-changed={variable}");
        }
        if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
            println!("cargo:warning=the stand-in for a CUDA driver is built on Linux only: tests of ctkvr-cuda cannot run");
            return String::new();
        }
        let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
        let mut units = Vec::new();
        for folder in ["kernels", "stand-in/kernels"] {
            for source in files(&root.join(folder), &["cu"]).into_iter().filter(|source| is_wanted(&stem(source))) {
                units.push(wrapped(&source, out));
            }
        }
        for folder in ["stand-in/simt", "stand-in/driver"] {
            for source in files(&root.join(folder), &["cpp"]) {
                let object = out.join(format!("{}.o", stem(&source)));
                units.push(Unit { source, object, is_kernel: false });
            }
        }
        let flags = flags(&root);
        compile(&mut units, &flags);
        let library = out.join("libcuda.so");
        let mut link = Command::new(compiler());
        // A library with a driver's name: cudarc's dlopen("libcuda.so") finds this one when it is loaded already.
        link.args(["-shared", "-Wl,-soname,libcuda.so", "-o"]).arg(&library);
        if sanitizer().is_none() {
            link.arg("-Wl,--no-undefined"); // a sanitizer's run time comes with the process (LD_PRELOAD)
        }
        link.args(units.iter().map(|unit| &unit.object));
        run(link).unwrap_or_else(|text| panic!("{text}"));
        library.display().to_string()
    }

    /// `CTKVR_STAND_IN_ONLY=probe,score` leaves the other kernels out: while one works on some, those of others need not be compiled.
    fn is_wanted(name: &str) -> bool {
        let only = env::var("CTKVR_STAND_IN_ONLY").unwrap_or_default();
        only.is_empty() || only.split(',').any(|wanted| wanted == name)
    }

    /// A kernel's file in a namespace of its own, as a module of CUDA is.
    fn wrapped(source: &Path, out: &Path) -> Unit {
        let name = stem(source);
        let text = format!(
            "#define SIMT_SHARED_SECTION \"ctkvr_shared_{name}\"\n\
             #define SIMT_SHARED_BEGIN __start_ctkvr_shared_{name}\n\
             #define SIMT_SHARED_END __stop_ctkvr_shared_{name}\n\
             #include \"simt.hpp\"\n\
             namespace {{\n\
             #include \"{}\"\n\
             }}\n",
            source.display()
        );
        let (source, object) = (out.join(format!("kernel_{name}.cpp")), out.join(format!("kernel_{name}.o")));
        let unit = Unit { source, object, is_kernel: true };
        fs::write(&unit.source, text).expect("OUT_DIR can be written");
        unit
    }

    fn flags(root: &Path) -> Vec<String> {
        let mut flags: Vec<String> =
            "-std=c++20 -fPIC -fvisibility=hidden -fno-strict-aliasing -ffp-contract=off -fno-math-errno -g1 -Wall \
             -Wno-unknown-pragmas -Wno-unused-function -Wno-sign-compare -Wno-restrict -Wno-attributes -Wno-unused-const-variable -c"
                .split_whitespace()
                .map(String::from)
                .collect();
        if env::var("HOST") == env::var("TARGET") {
            flags.push("-march=native".into());
        } else if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
            flags.extend(["-mavx2".into(), "-mfma".into(), "-mf16c".into()]);
        }
        for folder in ["stand-in/include", "stand-in"] {
            flags.push(format!("-I{}", root.join(folder).display()));
        }
        flags
    }

    /// `CTKVR_STAND_IN_SANITIZE=thread` or `address,undefined`.
    fn sanitizer() -> Option<String> {
        env::var("CTKVR_STAND_IN_SANITIZE").ok().filter(|what| !what.is_empty())
    }

    /// Feature `ledger`: what kernels read and write is counted (stand-in/driver/ledger.cpp).
    fn counts_bytes() -> bool {
        env::var_os("CARGO_FEATURE_LEDGER").is_some()
    }

    impl Unit {
        /// Kernels are optimised less, as some are instantiated dozens of times; the shim multiplies for them. Sanitizers look at kernels
        /// only, and the shim tells them of its fibers.
        fn own_flags(&self) -> Vec<String> {
            let mut flags = vec![String::from(if self.is_kernel { "-O2" } else { "-O3" })];
            if counts_bytes() {
                flags.push("-DSIMT_LEDGER".into());
                if self.is_kernel {
                    // ThreadSanitizer's calls for every access, which the ledger answers in its place. -O1 reads what the source uses of a struct and
                    // nothing that it does not.
                    flags.extend(
                        ["-O1", "-fsanitize=thread", "-Wno-tsan", "--param=tsan-instrument-func-entry-exit=0"].map(String::from),
                    );
                }
                return flags;
            }
            let what = sanitizer().unwrap_or_default();
            for (sanitizer, define) in [("thread", "-DSIMT_TSAN"), ("address", "-DSIMT_ASAN")] {
                if what.contains(sanitizer) {
                    flags.push(define.into());
                }
            }
            if self.is_kernel && !what.is_empty() {
                flags.push(format!("-fsanitize={what}"));
                flags.push("-Wno-tsan".into()); // fences are nothing to it, nor do they need to be: threads of a launch take turns
            }
            flags
        }
    }

    fn compiler() -> String {
        env::var("CXX").unwrap_or_else(|_| "g++".into())
    }

    /// Side by side; an object whose inputs have not changed stays. A kernel's file that does not compile is left out, with a warning:
    /// its kernels are missing then, and tests of the others run.
    fn compile(units: &mut Vec<Unit>, flags: &[String]) {
        let (queue, failed) = (Mutex::new(units.iter()), Mutex::new(Vec::new()));
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some(unit) = queue.lock().expect("no worker panics with it").next() else { return };
                        if let Err(text) = object(unit, flags) {
                            failed.lock().expect("no worker panics with it").push((unit.object.clone(), text));
                        }
                    }
                });
            }
        });
        for (object, text) in failed.into_inner().expect("no worker panics with it") {
            let name = stem(&object);
            assert!(name.starts_with("kernel_"), "{name}\n{text}");
            for line in text.lines().filter(|line| line.contains("error")) {
                println!("cargo:warning={line}");
            }
            println!("cargo:warning={}.cu is left out of the stand-in: it does not compile", name.trim_start_matches("kernel_"));
            units.retain(|unit| unit.object != object);
        }
    }

    /// # Errors
    /// What the compiler says.
    fn object(unit: &Unit, flags: &[String]) -> Result<(), String> {
        let flags = [unit.own_flags().as_slice(), flags].concat();
        let preprocessed = Command::new(compiler()).args(flags.iter().filter(|f| *f != "-c")).arg("-E").arg(&unit.source).output();
        let preprocessed = preprocessed.unwrap_or_else(|e| panic!("{}: {e}. The stand-in driver needs g++", compiler()));
        if !preprocessed.status.success() {
            return Err(String::from_utf8_lossy(&preprocessed.stderr).into());
        }
        let stamp = unit.object.with_extension("stamp");
        let digest = format!("{} {:x}", flags.join(" "), hash(&preprocessed.stdout));
        if unit.object.exists() && fs::read_to_string(&stamp).is_ok_and(|seen| seen == digest) {
            return Ok(());
        }
        let mut command = Command::new(compiler());
        command.args(&flags).arg(&unit.source).arg("-o").arg(&unit.object);
        run(command)?;
        fs::write(&stamp, digest).expect("OUT_DIR can be written");
        Ok(())
    }

    /// FNV-1a.
    fn hash(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
    }

    /// # Errors
    /// What the compiler says.
    fn run(mut command: Command) -> Result<(), String> {
        let output = command.output().unwrap_or_else(|e| panic!("{}: {e}. The stand-in driver needs g++", compiler()));
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{command:?}\n{text}"));
        }
        for line in text.lines().filter(|line| line.contains("warning:")) {
            println!("cargo:warning={line}");
        }
        Ok(())
    }

    fn stem(path: &Path) -> String {
        path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned()
    }
}

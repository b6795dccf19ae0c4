fn main() {
    napi_build::setup();
    // The shipped build links ggml's libraries, which lie beside it.
    if std::env::var_os("CARGO_FEATURE_DYNAMIC_BACKENDS").is_some() {
        let here = if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") { "@loader_path" } else { "$ORIGIN" };
        println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,{here}");
    }
}

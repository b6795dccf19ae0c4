//! Every entry point of the driver fails once: an error comes, never a panic, and the next device works. And the library that the
//! environment names.

use crate::fill;
use crate::fill::fill;
use ctkvr_cuda::stand_in::{library, session};
use ctkvr_cuda::{Device, DeviceBuffer, Error, PinnedBuffer, Result};

/// Uses everything once, in a thread that has no context yet.
fn scenario() -> Result<Vec<u32>> {
    std::thread::spawn(use_everything).join().unwrap()
}

fn use_everything() -> Result<Vec<u32>> {
    let device = Device::open_with(0, &[fill::FAMILY])?;
    let (compute, copy) = (device.compute(), device.copy());
    let buffer = DeviceBuffer::<u32>::zeroed(&device, 8)?;
    let other = DeviceBuffer::from_slice(&device, &[1u32; 8])?;
    let pinned = PinnedBuffer::<u32>::new(&device, 8)?;
    device.memory()?;
    let (start, end) = (device.timed_event()?, device.timed_event()?);
    compute.record(&start)?;
    let graph = compute.capture(|| fill(&device, compute, buffer.span(), 4, 5))?;
    compute.launch_graph(&graph)?;
    compute.copy(buffer.span().part(4..8), other.span().part(0..4))?;
    compute.record(&end)?;
    copy.wait_for(&end)?;
    // SAFETY: waited for below, before it is read or dropped: an error on the way ends in `drop`, which waits as well.
    unsafe { copy.copy_out_pinned(pinned.span(), buffer.span()) }?;
    copy.wait()?;
    end.wait()?;
    assert!(end.is_done()?);
    end.ms_since(&start)?;
    Ok(pinned.as_slice().to_vec())
}

/// Those that the product calls. A new one is added here, and to the stand-in.
const ENTRY_POINTS: [&str; 37] = [
    "cuDriverGetVersion",
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventQuery",
    "cuEventElapsedTime",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuLaunchKernel",
];

/// What gives back has nobody to tell.
fn is_silent(entry: &str) -> bool {
    ["Destroy", "Free", "Release"].iter().any(|word| entry.contains(word))
}

#[test]
fn every_entry_point_that_fails_is_an_error() {
    let session = session();
    assert_eq!(scenario().unwrap(), [5, 5, 5, 5, 1, 1, 1, 1]);
    for entry in ENTRY_POINTS {
        assert!(session.count(entry) > 0, "{entry} is not called");
    }
    for entry in ENTRY_POINTS {
        // Invalid value, and a lost device.
        for code in [1, 719] {
            session.reset();
            session.set("fail_entry", entry).set("fail_entry_code", code);
            let result = scenario();
            // A lost device shows at a later call, if there is one.
            if !is_silent(entry) {
                assert!(result.is_err(), "{entry} {code}: {result:?}");
            } else if code == 1 {
                assert!(result.is_ok(), "{entry} {code}: {result:?}");
            }
            if entry == "cuMemAlloc_v2" && code == 1 {
                assert!(matches!(result, Err(Error::Driver { call: "cuMemAlloc", code: 1, .. })), "{result:?}");
            }
        }
        session.reset();
        assert!(scenario().is_ok(), "after {entry}");
    }
    session.reset();
}

/// Runs an ignored test of this file in a process of its own, with the driver that `path` names.
fn with_driver(path: &str, test: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    let output = command
        .args([&format!("failures::{test}"), "--exact", "--ignored", "--nocapture"])
        .env("CTKVR_CUDA_DRIVER", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "run by the_environment_names_a_driver"]
fn opens() {
    let device = Device::open(0);
    match device {
        Ok(device) => println!("opened {}", device.properties().name),
        Err(e) => println!("refused: {e}"),
    }
}

#[test]
fn the_environment_names_a_driver() {
    let opened = with_driver(&library().display().to_string(), "opens");
    assert!(opened.contains("opened CTKvr stand-in"), "{opened}");
    let refused = with_driver("/no/such/libcuda.so", "opens");
    assert!(refused.contains("refused: no CUDA driver: CTKVR_CUDA_DRIVER: "), "{refused}");
}

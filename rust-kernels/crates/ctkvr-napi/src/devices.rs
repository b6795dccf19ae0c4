//! Devices of this machine.

use napi_derive::napi;

/// `NativeDevice` of packages/native/src/binding.ts.
#[napi(object, object_from_js = false)]
pub struct JsDevice {
    pub name: String,
    pub description: String,
    pub compute_capability: String,
    pub total_bytes: f64,
    pub free_bytes: f64,
    pub unusable: Option<String>,
}

/// `NativeDevices` of packages/native/src/binding.ts.
#[napi(object, object_from_js = false)]
pub struct JsDevices {
    pub devices: Vec<JsDevice>,
    pub reason: Option<String>,
}

/// What devices the driver lists, or why there are none. Loads the driver where there is one.
#[napi(catch_unwind)]
pub fn list_devices() -> JsDevices {
    match ctkvr_cuda::devices() {
        Err(error) => JsDevices { devices: vec![], reason: Some(error.to_string()) },
        Ok(devices) => JsDevices {
            devices: devices
                .into_iter()
                .map(|device| JsDevice {
                    name: format!("cuda:{}", device.index),
                    description: device.properties.name,
                    compute_capability: format!("{}.{}", device.properties.capability.0, device.properties.capability.1),
                    total_bytes: device.properties.total_bytes as f64,
                    free_bytes: device.free_bytes as f64,
                    unusable: device.unusable.map(|error| error.to_string()),
                })
                .collect(),
            reason: None,
        },
    }
}

//! The kernel part of `show status`.

use api::view::KernelView;
use tunnel::report::{DataplaneReport, DeviceState, NextHops};

use super::convert;

/// Returns the view of the kernel: devices, next hops, sysctls and failures, one line each.
pub(crate) fn kernel_view(report: &DataplaneReport) -> KernelView {
    let device = |device: &tunnel::report::DeviceReport| {
        let state = match (device.wanted, device.state) {
            (_, DeviceState::Up) => "up",
            (_, DeviceState::Down) => "down",
            (true, DeviceState::Missing) => "missing",
            (false, DeviceState::Missing) => "not needed",
        };
        let mtu = device.mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
        let addresses: String = device.addresses.iter().map(|address| format!(" {address}")).collect();
        format!("{}: {state}{mtu}{addresses}", device.name)
    };
    KernelView {
        next_hops: match report.next_hops {
            NextHops::Objects => "objects",
            NextHops::Gateways => "gateways",
            NextHops::Unknown => "unknown",
        }
        .to_owned(),
        drift: report.drift,
        work: convert::work_view(&report.work),
        latency: convert::kernel_latency_view(&report.latency),
        devices: report.devices.iter().map(device).collect(),
        sysctls: report.sysctls.iter().map(ToString::to_string).collect(),
        failures: report
            .failures
            .iter()
            .map(|failure| {
                format!(
                    "{}: {} (errno {}, {} attempts)",
                    failure.object, failure.text, failure.errno, failure.attempts
                )
            })
            .collect(),
    }
}

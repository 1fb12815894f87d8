//! The process as the kernel sees it, under the names that every Prometheus client library gives it.

use prometheus::{Counter, IntGauge};

use super::{FIXED, Maker};

/// Read from /proc whenever somebody asks for the metrics.
pub(super) struct Process {
    start_time: prometheus::Gauge,
    cpu: Counter,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
}

impl Process {
    pub(super) fn new(make: &Maker) -> Self {
        let start_time = "Start time of the process since the Unix epoch, in seconds.";
        let start_time =
            prometheus::Gauge::new("process_start_time_seconds", start_time).expect(FIXED);
        make.register(start_time.clone());
        let cpu = "Processor time, of user and system, in seconds.";
        let cpu = Counter::new("process_cpu_seconds_total", cpu).expect(FIXED);
        make.register(cpu.clone());
        Self {
            start_time,
            cpu,
            resident: make.gauge("process_resident_memory_bytes", "Memory in RAM."),
            virtual_memory: make.gauge("process_virtual_memory_bytes", "Memory mapped."),
            open_fds: make.gauge("process_open_fds", "Open file descriptors."),
            max_fds: make.gauge("process_max_fds", "Most file descriptors that may be open."),
            threads: make.gauge("process_threads", "Threads of the process."),
        }
    }

    /// Reads what can be read; the rest stays as it was.
    pub(super) fn refresh(&self) {
        if let Err(error) = self.read() {
            tracing::warn!(%error, "read /proc for the metrics");
        }
    }

    fn read(&self) -> procfs::ProcResult<()> {
        let process = procfs::process::Process::myself()?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.open_fds.set(process.fd_count()?.try_into().unwrap_or(i64::MAX));
        if let procfs::process::LimitValue::Value(most) =
            process.limits()?.max_open_files.soft_limit
        {
            self.max_fds.set(number(most));
        }
        let stat = process.stat()?;
        self.resident.set(number(stat.rss.saturating_mul(procfs::page_size())));
        self.virtual_memory.set(number(stat.vsize));
        self.threads.set(stat.num_threads);
        let ticks = seconds(procfs::ticks_per_second());
        let cpu = seconds(stat.utime + stat.stime) / ticks;
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        let booted = procfs::boot_time_secs()?;
        self.start_time.set(seconds(booted) + seconds(stat.starttime) / ticks);
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "2^53 ticks are far away")]
fn seconds(number: u64) -> f64 {
    number as f64
}

//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use biformer::train::{EpochMetrics, Event, Scores, StepMetrics};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A line on stderr. Unlike `eprintln!`, it does not panic when nobody reads any more: a run
/// must not die because a pipe or a terminal was closed.
pub fn say(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// What is said of an epoch behind its training loss.
fn scores(scores: &Scores) -> String {
    match *scores {
        Scores::Classification { train_top1, val_loss, val_top1, val_top5 } => format!(
            "top1 {train_top1:.3}  val loss {val_loss:.3} top1 {val_top1:.3} top5 {val_top5:.3}"
        ),
        Scores::Segmentation {
            train_acc_seg,
            val_mean_iou,
            val_mean_accuracy,
            val_pixel_accuracy,
        } => {
            format!(
                "acc_seg {train_acc_seg:.3}  val mIoU {val_mean_iou:.4} mAcc {val_mean_accuracy:.4} \
                 aAcc {val_pixel_accuracy:.4}"
            )
        }
    }
}

/// Shows how a run goes.
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    last_line: Instant,
    /// When the first step of this run ended, and how many there had been by then.
    first_step: Option<(Instant, usize)>,
}

impl Progress {
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg}");
        bar.set_style(style.expect("a valid template").progress_chars("=> "));
        let is_terminal = stderr().is_terminal();
        if is_terminal {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        Self { bar, is_terminal, last_line: Instant::now(), first_step: None }
    }

    /// Shows one event of training.
    pub fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Started { train_images, val_images, classes, parameters } => self.line(format!(
                "{train_images} training and {val_images} validation pictures of {classes} classes, \
                 {:.2} M parameters",
                parameters as f64 / 1e6
            )),
            Event::ScaledLr { recipe_lr, lr_base_size, lr, images } => self.line(format!(
                "learning rate {lr:.3e}: {recipe_lr:.3e} for {lr_base_size} pictures a step, scaled to \
                 {images} (--lr or --lr-base-size 0 takes the rate as it is)"
            )),
            Event::ReplacedHead { checkpoint_classes, classes } => self.line(format!(
                "the head of {checkpoint_classes} classes is replaced by a fresh one of {classes}"
            )),
            Event::InitializedBackbone { loaded, fresh, left_out } => self.line(format!(
                "the backbone begins with {loaded} tensors of the classifier; {fresh} that it \
                 lacks are fresh, {left_out} that only it has are left out, heads are fresh"
            )),
            Event::Resumed { epoch, step } => {
                self.line(format!("going on after epoch {epoch}, step {step}"));
            }
            Event::Skipped { path: _, reason } => self.line(format!("warning: skipped: {reason}")),
            Event::Step(metrics) => self.step(&metrics),
            Event::Validated { images, of } => self.count("validation", images, of, ""),
            Event::Epoch(metrics) => {
                let EpochMetrics { epoch, train_loss, images_per_second, seconds, .. } = metrics;
                self.line(format!(
                    "epoch {epoch:>3}  train loss {train_loss:.3} {}  {images_per_second:.0} images/s  \
                     {seconds:.0} s",
                    scores(&metrics.scores)
                ));
            }
        }
    }

    /// Shows that `done` of `total` things are done.
    pub fn count(&mut self, what: &str, done: usize, total: usize, message: &str) {
        if self.is_terminal {
            self.place(what, done, total);
            self.bar.set_message(message.to_owned());
        } else if done < total && self.last_line.elapsed() >= LINE_EVERY {
            self.line(format!("{what} {done}/{total} {message}").trim_end().to_owned());
        }
    }

    /// A line above the bar.
    pub fn line(&mut self, text: String) {
        self.last_line = Instant::now();
        self.bar.suspend(|| say(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn step(&mut self, metrics: &StepMetrics) {
        let &StepMetrics { epoch, epochs, step, steps, loss, accuracy, lr, images_per_second } =
            metrics;
        let done = (epoch - 1) * steps + step;
        let (since, before) = *self.first_step.get_or_insert_with(|| (Instant::now(), done));
        let left = match done - before {
            0 => String::new(),
            timed => {
                let seconds = since.elapsed().as_secs_f64() / timed as f64;
                let left = Duration::from_secs_f64(seconds * (epochs * steps - done) as f64);
                format!(", {} left", HumanDuration(left))
            }
        };
        let message = format!(
            "loss {loss:.3} accuracy {accuracy:.3} lr {lr:.1e} {images_per_second:.0} images/s{left}"
        );
        self.count(&format!("epoch {epoch}/{epochs}"), step, steps, &message);
    }

    fn place(&self, what: &str, done: usize, total: usize) {
        self.bar.set_prefix(what.to_owned());
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
    }
}

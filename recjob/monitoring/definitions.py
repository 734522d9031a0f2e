"""Every metric that Prometheus gets: name, kind, labels and meaning. docs/metrics.md is made of it.

A label has few values: never a user, an outfit or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "counter", "histogram", "info"]


@dataclass(frozen=True)
class Definition:
    """A metric as Prometheus knows it."""

    name: str
    """Whole, `_total` of counters and `_info` included."""
    kind: Kind
    labels: tuple[str, ...]
    help: str


JOB_OUTCOMES: Final = ("done", "failed", "killed", "refused", "skipped")
"""Values of the label `outcome`: each is there from the first, so that the first failure counts."""
DECISIONS: Final = ("passed", "refused", "forced")
"""Values of the label `decision`."""

BUILD: Final = "recjob_build_info"
ENGINE: Final = "recjob_engine_info"
MEMORY_LIMIT: Final = "recjob_memory_limit_bytes"
GPU_MEMORY_LIMIT: Final = "recjob_gpu_memory_limit_bytes"
JOB_PEAK_MEMORY: Final = "recjob_job_peak_memory_bytes"
JOB_PEAK_GPU_MEMORY: Final = "recjob_job_peak_gpu_memory_bytes"
EMBEDDING_SECONDS: Final = "recjob_embedding_batch_seconds"
SCORING_SECONDS: Final = "recjob_scoring_batch_seconds"
MODEL_AUC: Final = "recjob_model_auc"
MODEL_NDCG: Final = "recjob_model_ndcg"

_DEFINITIONS: Final = (
    Definition(BUILD, "info", ("version", "python"), "Version of recjob and of Python; always 1."),
    Definition(
        ENGINE,
        "info",
        ("model", "engine", "precision"),
        "What embedded last, with which model; always 1.",
    ),
    Definition(
        "recjob_database_up",
        "gauge",
        (),
        "1 if the database answers; at 0 only the scheduler's own figures are there. Only the "
        "scheduler tells it.",
    ),
    Definition(
        "recjob_scheduler_leader",
        "gauge",
        (),
        "1 if this scheduler starts the jobs, 0 if it stands by. Only the scheduler tells it.",
    ),
    Definition(
        "recjob_scheduler_last_tick_timestamp_seconds",
        "gauge",
        (),
        "When the scheduler last looked at the clock. Only the scheduler tells it.",
    ),
    Definition(
        "recjob_schedule_next_run_timestamp_seconds",
        "gauge",
        ("entry",),
        "When an entry of the schedule is due next. Only the scheduler tells it.",
    ),
    Definition(
        "recjob_schedule_runs_total",
        "counter",
        ("entry", "outcome"),
        "Ended runs of an entry of the schedule; what is tried again counts once.",
    ),
    Definition("recjob_job_runs_total", "counter", ("job", "outcome"), "Ended runs of a job."),
    Definition(
        "recjob_job_running", "gauge", ("job",), "1 while the job runs and gives signs of life."
    ),
    Definition(
        "recjob_job_last_start_timestamp_seconds",
        "gauge",
        ("job",),
        "When the job was last started.",
    ),
    Definition(
        "recjob_job_last_completion_timestamp_seconds",
        "gauge",
        ("job",),
        "When the job last ended, however it did; of a killed one its last sign of life.",
    ),
    Definition(
        "recjob_job_last_success_timestamp_seconds",
        "gauge",
        ("job",),
        "When the job last ended well, or found nothing to do.",
    ),
    Definition(
        "recjob_job_last_outcome",
        "gauge",
        ("job", "outcome"),
        "1 for how the job's last ended run ended, 0 for the other outcomes. A run without a sign "
        "of life is killed.",
    ),
    Definition(
        "recjob_job_duration_seconds", "gauge", ("job",), "What the job's last ended run took."
    ),
    Definition(
        JOB_PEAK_MEMORY,
        "gauge",
        ("job",),
        "Largest memory of the job's last run and its child processes, also while it runs.",
    ),
    Definition(
        JOB_PEAK_GPU_MEMORY,
        "gauge",
        ("job",),
        "Largest GPU memory of the job's last run, also while it runs; absent without a GPU.",
    ),
    Definition(
        MEMORY_LIMIT,
        "gauge",
        ("job",),
        "Memory that the job's last run could have: the limit of its cgroup, else the machine's.",
    ),
    Definition(
        GPU_MEMORY_LIMIT,
        "gauge",
        ("job",),
        "Memory of the largest GPU of the machine of the job's last run; absent without a GPU.",
    ),
    Definition(
        "recjob_stage_duration_seconds",
        "gauge",
        ("job", "stage"),
        "What the stage took in the last run that finished it, or failed in it.",
    ),
    Definition(
        "recjob_stage_last_items",
        "gauge",
        ("job", "stage"),
        "What the stage handled in that run: pictures, outfits, users, rows.",
    ),
    Definition(
        "recjob_stage_throughput_items_per_second",
        "gauge",
        ("job", "stage"),
        "Items per second of the stage in that run; absent where it counts nothing.",
    ),
    Definition(
        "recjob_stage_peak_memory_bytes",
        "gauge",
        ("job", "stage"),
        "Largest memory of the job and its child processes during the stage in that run.",
    ),
    Definition(
        "recjob_stage_peak_gpu_memory_bytes",
        "gauge",
        ("job", "stage"),
        "Largest GPU memory during the stage in that run; absent without a GPU.",
    ),
    Definition(
        "recjob_stage_items_total",
        "counter",
        ("job", "stage"),
        "What the stage handled in all runs together.",
    ),
    Definition(
        "recjob_stage_seconds_total",
        "counter",
        ("job", "stage"),
        "What the stage took in all runs together.",
    ),
    Definition(
        EMBEDDING_SECONDS,
        "histogram",
        ("kind", "engine"),
        "What a batch of items or outfits took to be embedded, in all runs together.",
    ),
    Definition(
        SCORING_SECONDS,
        "histogram",
        ("engine",),
        "What a shard of users took to be given its lists, in all runs together.",
    ),
    Definition(
        "recjob_users",
        "gauge",
        ("kind",),
        "Users of the published run: with a vector of the model (warm), with liked outfits only "
        "(cold), with neither (stranger).",
    ),
    Definition("recjob_published_run", "gauge", (), "Number of the run that readers see."),
    Definition(
        "recjob_published_run_timestamp_seconds",
        "gauge",
        (),
        "When the published run was written; showing it again does not make it newer.",
    ),
    Definition("recjob_published_lists", "gauge", (), "Lists of the published run."),
    Definition(
        "recjob_run_held",
        "gauge",
        (),
        "1 if a limit holds the newest kept run back.",
    ),
    Definition(
        "recjob_candidates",
        "gauge",
        (),
        "Outfits that lists of the published run could hold.",
    ),
    Definition(
        "recjob_candidates_filtered",
        "gauge",
        ("reason",),
        "Outfits that lists of the published run could not hold; each under its first reason.",
    ),
    Definition(
        "recjob_catalog_coverage_ratio",
        "gauge",
        (),
        "Share of the candidates that are in some list of the published run.",
    ),
    Definition(
        "recjob_score_drift_psi",
        "gauge",
        ("model",),
        "Population stability index of the published run's scores against the run that was "
        "published before; `model`: whether the same scored it or another, whose scale is its own.",
    ),
    Definition(
        "recjob_catalog_items",
        "gauge",
        ("state",),
        "Items that can be recommended (available), that cannot (unavailable), and that have no "
        "picture (quarantined).",
    ),
    Definition(
        "recjob_images_quarantined",
        "gauge",
        (),
        "Items whose picture is missing or unusable, available or not.",
    ),
    Definition(
        MODEL_AUC,
        "gauge",
        ("role", "split"),
        "AUC of the active model: at the end of its training (validation), in the last evaluate "
        "or gate that measured it (test).",
    ),
    Definition(
        MODEL_NDCG,
        "gauge",
        ("role", "split"),
        "NDCG of the active model, mean over every cutoff; as the AUC.",
    ),
    Definition("recjob_model_info", "info", ("role", "model"), "The active models; always 1."),
    Definition(
        "recjob_model_trained_timestamp_seconds",
        "gauge",
        ("role",),
        "When the active model was registered, after its training.",
    ),
    Definition("recjob_gate_decisions_total", "counter", ("decision",), "Decisions of the gate."),
    Definition(
        "recjob_gate_last_decision_timestamp_seconds",
        "gauge",
        (),
        "When the gate last decided.",
    ),
    Definition(
        "recjob_gate_last_refused", "gauge", (), "1 if the gate's last decision was to refuse."
    ),
)

METRICS: Final[Mapping[str, Definition]] = {found.name: found for found in _DEFINITIONS}
"""By name, in the order in which they are served."""

"""The Kubernetes manifests: schemas, rules for every pod, and the settings that they name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from recjob.settings import MetricsSettings, ScheduleSettings, load_settings
from tests.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    PROGRAM,
    Workload,
    check_command,
    documents,
    parse,
    program_commands,
    recjob_environment,
    relative,
    workloads,
    yaml_files,
)
from tests.programs import installed

VERSIONS = ("1.31", "1.34")
"""Of Kubernetes: the oldest that is promised, and a newer one."""
OVERLAYS = ("migration", "scheduler", "standby", "cronjobs")
KUSTOMIZE_KEYS = {
    *("apiVersion", "kind", "namespace", "nameSuffix", "resources", "components", "patches"),
    *("configMapGenerator", "images"),
}
ENTRIES = ("import", "autoencoder", "teacher", "student", "embed", "nightly", "retention")


def objects_of_files() -> list[dict[str, Any]]:
    """What is written down as Kubernetes objects: no kustomizations and no patches."""
    return [
        one
        for file in sorted(KUBERNETES.rglob("*.yaml"))
        for one in documents(file)
        if isinstance(one, dict) and not one["apiVersion"].startswith("kustomize.")
    ]


def kustomizations() -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in [*KUBERNETES.rglob("kustomization.yaml"), *DEPLOY.glob("*/kustomization.yaml")]:
        (document,) = documents(file)
        yield file.parent, document


def validate(one: dict[str, Any]) -> None:
    """Against Kubernetes' own schemas, strictly: an unknown key is an error."""
    if one["kind"] == "ServiceMonitor":  # the Prometheus operator's, which is not among them
        assert one["apiVersion"] == "monitoring.coreos.com/v1"
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(one["spec"]) <= {"jobLabel", "selector", "namespaceSelector", "endpoints"}
        for endpoint in one["spec"]["endpoints"]:
            assert set(endpoint) <= {"port", "path", "interval", "honorLabels"}
        return
    for version in VERSIONS:
        kubernetes_validate.validate(one, version, strict=True)


def test_every_yaml_file_of_the_deployment_parses() -> None:
    assert len(yaml_files()) > 40
    for file in yaml_files():
        assert documents(file), file


def test_every_object_fits_its_schema() -> None:
    found = objects_of_files()
    assert {"Deployment", "CronJob", "Job", "NetworkPolicy", "Secret"} <= {o["kind"] for o in found}
    for one in found:
        validate(one)


def test_a_misspelt_key_does_not_fit() -> None:
    (service,) = documents(KUBERNETES / "overlays" / "scheduler" / "service.yaml")
    service["spec"]["clusterIp"] = "None"
    with pytest.raises(kubernetes_validate.ValidationError, match="clusterIp"):
        validate(service)


def test_kustomizations_name_what_is_there() -> None:
    used: set[Path] = set()
    for folder, document in kustomizations():
        assert set(document) <= KUSTOMIZE_KEYS, folder
        names = [
            *document.get("resources", []),
            *document.get("components", []),
            *(patch["path"] for patch in document.get("patches", [])),
            *(file for one in document.get("configMapGenerator", []) for file in one["files"]),
        ]
        for name in names:
            path = (folder / name).resolve()
            assert path.exists(), f"{folder}: {name}"
            used.add(path / "kustomization.yaml" if path.is_dir() else path)
    tops = {KUBERNETES / "overlays" / name / "kustomization.yaml" for name in OVERLAYS}
    offered = {KUBERNETES / "components" / n / "kustomization.yaml" for n in ("cpu", "monitoring")}
    examples = {KUBERNETES / "secret.example.yaml"}
    files = {path for path in KUBERNETES.rglob("*") if path.is_file()}
    assert not files - used - tops - offered - examples, "files that nothing names"


def check_pod(workload: Workload) -> None:
    """The rules for every pod."""
    pod = workload.pod
    assert workload.labels["app.kubernetes.io/name"] == "recjob"  # the network policy's
    assert pod["serviceAccountName"] == "recjob"
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["fsGroup"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in workload.containers:
        where = f"{workload.name}: {container['name']}"
        inside = container["securityContext"]
        assert inside["allowPrivilegeEscalation"] is False, where
        assert inside["readOnlyRootFilesystem"] is True, where
        assert inside["capabilities"] == {"drop": ["ALL"]}, where
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests), where
        assert "memory" in limits, where
        assert requests.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu"), where
        assert not {"nvidia.com/gpu"} & set(limits) or "tolerations" in pod, where
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/tmp" in mounts, where
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, where
        for variable in container.get("env", []):
            if "URL" in variable["name"] or "PASSWORD" in variable["name"]:
                assert set(variable) == {"name", "valueFrom"}, where
        if _is_program(container):
            assert "/var/lib/recjob" in mounts, where
            environment = {v["name"]: v.get("value") for v in container.get("env", [])}
            load_settings(KUBERNETES / "base" / "recjob.toml", recjob_environment(environment))
            for command in _commands(container):
                check_command(command)


def _is_program(container: dict[str, Any]) -> bool:
    return "pgvector" not in container["image"]


def _commands(container: dict[str, Any]) -> list[list[str]]:
    if "command" in container:
        found = program_commands(container["command"][-1])
        assert found
        return found
    return [container["args"]]


def test_every_pod_keeps_the_rules() -> None:
    found = list(workloads(objects_of_files()))
    assert {one.kind for one in found} == {"Deployment", "Job", "CronJob"}
    for one in found:
        check_pod(one)


def test_the_secrets_are_examples() -> None:
    secrets = [one for one in objects_of_files() if one["kind"] == "Secret"]
    names = {one["metadata"]["name"]: one["stringData"] for one in secrets}
    for values in names.values():
        for name, value in values.items():
            assert value == "" or name in ("PGSSLMODE", "PGSSLROOTCERT"), name
    for workload in workloads(objects_of_files()):
        for container in workload.containers:
            for variable in container.get("env", []):
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["key"] in names[reference["name"]]
    sql = (DEPLOY / "postgres" / "users.sql").read_text(encoding="utf-8")
    for name in ("SCHEDULER_PASSWORD", "SHOP_PASSWORD", "WATCHER_PASSWORD"):
        assert name in names["recjob-administrator"]
        assert f" {name}\n" in sql


def test_the_settings_are_known_and_fit_the_manifests() -> None:
    settings = load_settings(KUBERNETES / "base" / "recjob.toml", {})
    (deployment,) = (one for one in workloads(objects_of_files()) if one.kind == "Deployment")
    (container,) = deployment.containers
    assert settings.metrics.host == "0.0.0.0"
    assert settings.metrics.port == container["ports"][0]["containerPort"]
    assert settings.schedule.import_folder in [m["mountPath"] for m in container["volumeMounts"]]
    assert deployment.pod["terminationGracePeriodSeconds"] > settings.schedule.kill_seconds
    pushing = load_settings(KUBERNETES / "overlays" / "cronjobs" / "recjob.toml", {})
    assert pushing.metrics.sink == "pushgateway"


def test_the_probes_ask_for_metrics() -> None:
    (deployment,) = (one for one in workloads(objects_of_files()) if one.kind == "Deployment")
    (container,) = deployment.containers
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/metrics", "port": "metrics"}
    assert container["ports"][0]["name"] == "metrics"
    # One at a time on one disk.
    assert deployment.spec["replicas"] == 1
    assert deployment.spec["strategy"] == {"type": "Recreate"}


def test_the_network_is_closed_but_for_what_is_needed() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in objects_of_files()
        if one["kind"] == "NetworkPolicy"
    }
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    incoming = [rule for one in policies.values() for rule in one.get("ingress", [])]
    assert [rule["ports"] for rule in incoming] == [
        [{"protocol": "TCP", "port": MetricsSettings().port}]
    ]
    assert all(rule["from"] for rule in incoming)
    outgoing = [rule for one in policies.values() for rule in one.get("egress", [])]
    assert {port["port"] for rule in outgoing for port in rule["ports"]} == {53, 5432, 443, 9091}
    assert all(rule["to"] for rule in outgoing)


def _render(folder: Path) -> list[dict[str, Any]]:
    kubectl = installed("kubectl", "from kubernetes.io")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return parse(done.stdout)


@pytest.mark.system
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_as_kustomize_makes_it(overlay: str) -> None:
    objects = _render(KUBERNETES / "overlays" / overlay)
    for one in objects:
        validate(one)
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "recjob"
    found = list(workloads(objects))
    for workload in found:
        check_pod(workload)
        for container in filter(_is_program, workload.containers):
            assert container["image"].startswith("registry.example/recjob:")
    kinds = [one["kind"] for one in objects]
    assert kinds.count("Deployment") == (overlay in ("scheduler", "standby"))
    assert kinds.count("CronJob") == (len(ENTRIES) if overlay == "cronjobs" else 0)
    assert kinds.count("Job") == (overlay == "migration")
    assert "Secret" not in kinds
    # Generated names, references and mounted folders belong together.
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    claims = {o["metadata"]["name"] for o in objects if o["kind"] == "PersistentVolumeClaim"}
    for workload in found:
        for volume in workload.pod["volumes"]:
            assert volume.get("configMap", {"name": None})["name"] in {None, *maps}
            claim = volume.get("persistentVolumeClaim", {"claimName": None})["claimName"]
            assert claim in {None, *claims}


@pytest.mark.system
def test_two_schedulers_of_kustomize_share_their_home() -> None:
    objects = _render(KUBERNETES / "overlays" / "standby")
    (deployment,) = workloads(objects)
    assert deployment.spec["replicas"] == 2
    assert deployment.spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "podAntiAffinity" in deployment.pod["affinity"]
    (home,) = (o for o in objects if o["metadata"]["name"] == "recjob-home")
    assert home["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "PodDisruptionBudget" in [one["kind"] for one in objects]


@pytest.mark.system
def test_the_cron_jobs_of_kustomize_do_what_the_scheduler_does_by_default() -> None:
    schedule = ScheduleSettings()
    found = {one.name: one for one in workloads(_render(KUBERNETES / "overlays" / "cronjobs"))}
    assert set(found) == {f"recjob-{entry}" for entry in ENTRIES}
    jobs = {
        "import": [["import", "tables", "/data/export", "--snapshot"]],
        "autoencoder": [["train-autoencoder", "--if-changed"]],
        "teacher": [["train-teacher", "--if-changed"]],
        "student": [["distill", "--if-changed"], ["compile"], ["gate"]],
        "embed": [["embed"]],
        "nightly": [["nightly-recommend"]],
        "retention": [["retention"]],
    }
    for entry, commands in jobs.items():
        workload = found[f"recjob-{entry}"]
        assert workload.job is not None
        (container,) = workload.containers
        assert _commands(container) == commands
        if "command" in container:
            assert container["command"][:2] == ["tini", "-g"]
            assert f"python {PROGRAM} " in container["command"][-1]
        assert workload.spec["schedule"] == getattr(schedule, f"{entry}_cron")
        assert workload.spec["timeZone"] == f"Etc/{schedule.timezone}"
        assert workload.spec["concurrencyPolicy"] == "Forbid"
        assert workload.job["activeDeadlineSeconds"] == getattr(schedule, f"{entry}_hours") * 3600
        assert workload.job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 4]
        gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert gpu == (entry not in ("import", "retention"))


@pytest.mark.system
def test_the_components_of_kustomize_fit_the_scheduler(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{relative(KUBERNETES / 'overlays' / 'scheduler', tmp_path)}]\n"
        f"components: [{relative(KUBERNETES / 'components' / 'cpu', tmp_path)},"
        f" {relative(KUBERNETES / 'components' / 'monitoring', tmp_path)}]\n"
    )
    objects = _render(tmp_path)
    for one in objects:
        validate(one)
    (deployment,) = workloads(objects)
    check_pod(deployment)
    assert "nvidia" not in str(deployment)
    (monitor,) = (one for one in objects if one["kind"] == "ServiceMonitor")
    (service,) = (one for one in objects if one["kind"] == "Service")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= deployment.labels.items()
    # By that name alerts and the dashboard ask whether it is up.
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "recjob"

"""A configuration in the words of its file, everything spelt out: what `mesh config` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from mesh import codec
from mesh.config import Sandbox
from mesh.configs.document import core_value

if TYPE_CHECKING:
    from mesh.config import Config, Healthcheck, RestartPolicy, Service

_MS_PER_S = 1000


def _duration(seconds: float) -> str:
    ms = round(seconds * _MS_PER_S)
    return f"{ms // _MS_PER_S}s" if ms % _MS_PER_S == 0 else f"{ms}ms"


def _restart(policy: RestartPolicy) -> str:
    return f"{policy.when}:{policy.limit}" if policy.when == "on-failure" else policy.when


def _healthcheck(check: Healthcheck) -> dict[str, object]:
    start_interval_s = check.start_interval_s
    return {
        **({"test": list(check.test)} if check.test else {}),
        "interval": _duration(check.interval_s),
        "timeout": _duration(check.timeout_s),
        "retries": check.retries,
        "start_period": _duration(check.start_period_s),
        **({"start_interval": _duration(start_interval_s)} if start_interval_s is not None else {}),
    }


def _sandbox(sandbox: Sandbox) -> object:
    """One word where that says it all."""
    if sandbox == Sandbox(sandbox.mode):
        return sandbox.mode
    said = {**codec.plain(sandbox), "read": list(sandbox.read), "write": list(sandbox.write)}
    return {key: value for key, value in said.items() if value}


def _service(service: Service) -> dict[str, object]:
    """Keys that say nothing (an empty list, no health check) are left out."""
    said: dict[str, object] = {
        "module": service.module,
        "command": list(service.command or ()),
        "port": service.port,
        "socket": service.socket,
        "database": service.database,
        "calls": list(service.calls),
        "depends_on": codec.plain(service.depends_on),
        "environment": service.environment,
        "env_file": list(service.env_file),
        "working_dir": service.working_dir,
        "restart": _restart(service.restart),
        "stop_signal": service.stop_signal,
        "stop_grace_period": _duration(service.stop_grace_period_s),
        "healthcheck": _healthcheck(service.healthcheck) if service.healthcheck else None,
        "sandbox": _sandbox(service.sandbox),
        "develop": {"watch": codec.plain(service.watch)} if service.watch else None,
        "seed": service.seed,
    }
    empty: tuple[object, ...] = (None, [], {})
    return {key: value for key, value in said.items() if value not in empty}


def document(config: Config) -> dict[str, object]:
    """The configuration as plain values."""
    return {
        "name": config.name,
        **({"bus": config.bus} if config.bus else {}),
        "services": {name: _service(service) for name, service in config.services.items()},
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader would take for another type, and never writes aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  (PyYAML's signature)
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(core_value(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _escaped(value: object) -> object:
    """The same with every `$` of a value doubled, as files have it; keys stay."""
    if isinstance(value, dict):
        return {key: _escaped(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_escaped(inside) for inside in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def as_yaml(value: dict[str, object]) -> str:
    """YAML that reads as the same values."""
    return yaml.dump(
        _escaped(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )

"""What a service reads of its environment."""

from __future__ import annotations

import os

import pytest

from mesh.errors import InvalidInput
from mesh.framework.settings import LISTEN_FD, settings

NEEDED = {
    "MESH_SERVICE": "order",
    "MESH_PROJECT": "shop",
    "MESH_DATA_DIR": "/data/order",
    "MESH_BUS_URL": "zmq:///run/bus",
    "MESH_IDENTITY_FILE": "/run/order.json",
}


def test_what_is_not_said_has_its_default():
    found = settings(NEEDED)
    assert (found.host, found.port, found.listen_fd) == ("127.0.0.1", 0, None)
    assert (found.database_url, found.seed_file, found.peers) == ("sqlite://", None, {})


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_variable_is_named(name, value):
    environment = {**NEEDED, name: value}
    if value is None:
        del environment[name]
    with pytest.raises(InvalidInput, match=name):
        settings(environment)


@pytest.mark.parametrize("port", ["", "http", "-1", "65536", "7001.5", "\u0667"])
def test_port_that_is_none_is_named(port):
    with pytest.raises(InvalidInput, match="PORT"):
        settings({**NEEDED, "PORT": port})


@pytest.mark.parametrize("patience", ["", "0", "-1", "1.5", "1001", "much"])
def test_patience_that_is_no_number_is_named(patience):
    with pytest.raises(InvalidInput, match="MESH_PATIENCE"):
        settings({**NEEDED, "MESH_PATIENCE": patience})


def test_patience_is_one_unless_it_is_said():
    assert settings(NEEDED).patience == 1
    assert settings({**NEEDED, "MESH_PATIENCE": "20"}).patience == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_host_of_this_machine_is_taken(host):
    assert settings({**NEEDED, "HOST": host}).host == host


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_host_that_others_reach_is_refused(host):
    with pytest.raises(InvalidInput, match="HOST"):
        settings({**NEEDED, "HOST": host})


def test_peers_are_named_as_in_the_configuration():
    found = settings({**NEEDED, "MESH_URL_PRODUCT": "http://p", "MESH_URL_MY_PEER": "http://m"})
    assert found.peers == {"product": "http://p", "my-peer": "http://m"}


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({"LISTEN_FDS": "1", "LISTEN_PID": "own"}, LISTEN_FD),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, None),
        ({"LISTEN_FDS": "1"}, None),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "own"}, None),
    ],
)
def test_descriptor_is_taken_only_when_it_was_meant_for_this_process(said, taken):
    said = {name: value.replace("own", str(os.getpid())) for name, value in said.items()}
    assert settings({**NEEDED, **said}).listen_fd == taken

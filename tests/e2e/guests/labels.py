"""A program of the standard library alone: prints a label for every event of product, and says so."""

import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ["MESH_EVENTS_URL"]


def ask(method: str, url: str, body: object = None) -> object:
    """One request; a bus that is away is waited for."""
    while True:
        with open(os.environ["MESH_TOKEN_FILE"], encoding="utf-8") as file:  # noqa: PTH123
            token = json.load(file)["bus"]
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/cloudevents+json",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise
            time.sleep(0.05)


after = ""
while True:
    for event in ask("GET", f"{URL}?consumer=labels&type=product.*&wait=5&after={after}"):
        label = {
            "specversion": "1.0",
            "id": f"label of {event['id']}",
            "source": "/labels",
            "type": "labels.printed",
            "subject": event["subject"],
            "causationid": event["id"],
            "data": {"of": event["id"], "what": event["type"]},
        }
        ask("POST", f"{URL}/labels.printed", label)
        after = event["position"]

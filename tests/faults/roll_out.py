"""``python -m tests.faults.roll_out DATA_DIRECTORY INGRESS``: deploys a new version into a house.

A process of its own, because it joins the house's Ray. The new version differs in one limit; to
Ray Serve that is another version, so every replica is replaced, one after another.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

PATIENCE_S = 90


def main() -> int:
    """Roll out and wait until the new version runs."""
    data = Path(sys.argv[1])
    notes = json.loads((data / "running.json").read_text())
    # Ray reads these when it is imported.
    os.environ.update(
        {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(data / "ray.token"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
    )
    if sys.argv[2] == "haproxy":
        os.environ.update({"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"})
    import ray
    from ray import serve

    from persistence.shards import ShardMap
    from serve_app.house.app import compose_applications, compose_edge
    from serve_app.house.ray_runtime import NAMESPACE
    from serve_app.settings import load_settings

    ray.init(address=notes["ray_address"], namespace=NAMESPACE, log_to_driver=False)
    settings = load_settings(data_dir=data, ingress=sys.argv[2], limits="off")
    shards = ShardMap.even(tuple(notes["database_urls"]))
    heartbeats = str((data / "run").readlink() / "heartbeats")
    edge = compose_edge(settings, shards, notes["redis_url"], heartbeats)
    changed = replace(edge, body_bytes_max=edge.body_bytes_max * 2)
    serve.run_many(
        [
            serve.RunTarget(hosted.application, hosted.name, hosted.route_prefix)
            for hosted in compose_applications(changed)
        ],
        wait_for_applications_running=False,
    )
    deadline = time.monotonic() + PATIENCE_S
    while any(state.status != "RUNNING" for state in serve.status().applications.values()):
        if time.monotonic() > deadline:
            print(serve.status())
            return 1
        time.sleep(0.2)
    print("rolled out")
    return 0


if __name__ == "__main__":
    sys.exit(main())

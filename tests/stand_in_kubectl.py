"""A stand-in for kubectl: `python stand_in_kubectl.py ADDRESS --namespace NAME get|cp|exec|delete ...`.

It has the few forms that `tests/cluster.py` uses; anything else is refused. Pods are asked for at ADDRESS, as at
Kubernetes' own API. The toolbox's volume is this machine's disk, so `cp` copies here and `exec` runs the command here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import quote

TOOLBOX_POD = "warmstart-toolbox-0"


def main(arguments: list[str]) -> int:
    """Does what kubectl would do.

    Returns:
      the exit code.
    """
    address, option, namespace, *rest = arguments
    pods = f"{address}/api/v1/namespaces/{namespace}/pods"
    match [option, *rest]:
        case ["--namespace", "get", "pods", "-l", label, "-o", "name"]:
            for pod in ask("GET", f"{pods}?labelSelector={quote(label)}")["items"]:
                print(f"pod/{pod['metadata']['name']}")
        case ["--namespace", "get", "pods", "-o", "json"]:
            print(json.dumps(ask("GET", pods)))
        case ["--namespace", "delete", "pod", name, "--wait=false"]:
            ask("DELETE", f"{pods}/{quote(name)}")
            print(f'pod "{name}" deleted')
        case ["--namespace", "cp", source, target] if target.startswith(f"{TOOLBOX_POD}:"):
            shutil.copytree(source, target.partition(":")[2])
        case ["--namespace", "exec", pod, "--", *command] if pod == TOOLBOX_POD:
            return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        case _:
            print(f"error: the stand-in for kubectl does not know {arguments[1:]}", file=sys.stderr)
            return 1
    return 0


def ask(method: str, url: str) -> dict:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method=method), timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"Error from server: {error.read().decode()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What horovodrun starts in the place of a rank: see horovod_ranks.py. Imports nothing of ours."""

import json
import os
import socket
import sys


def main(address: str) -> None:
    """Sends this rank's variables to the launcher's socket, and waits for the launcher's end."""
    names = [name for name in os.environ if name.startswith(('HOROVOD_', 'NCCL_SOCKET_IFNAME'))]
    variables = {name: os.environ[name] for name in names}
    with socket.socket(socket.AF_UNIX) as launcher:
        launcher.connect(address)
        launcher.sendall((json.dumps(variables) + '\n').encode())
        launcher.recv(1)  # returns when the launcher has closed its side, or is gone


if __name__ == '__main__':
    main(sys.argv[1])

"""The installed command `mesh`, and `python -m mesh`."""

import os
import signal

STANDARD = (0, 1, 2)


def main() -> None:
    """Run this process's command line and exit.

    Until there is somebody to take a Ctrl-C, it ends the process, as it would any other's, without
    a traceback. A standard stream that was closed leads nowhere: or the next file opened would be it.
    """
    for descriptor in STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mesh import cli  # noqa: PLC0415  (takes a while)

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()

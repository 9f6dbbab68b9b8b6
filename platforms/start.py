"""What the image starts: RunPod's worker where RunPod hands out jobs, else the container.

python -m platforms.start
"""

import sys

from shared import logs
from shared.errors import ENDINGS
from shared.settings import Settings


def main() -> int:
    """Start the one that the environment is made for; returns the exit code."""
    logs.set_up("INFO")
    try:
        settings = Settings.from_env()
        logs.set_up(settings.log_level)
        if settings.runpod_webhook_get_job is None:
            from platforms.container.server import serve

            return serve(settings, settings.host, settings.port)
    except ENDINGS as wrong:
        logs.logger.error(str(wrong))
        return 1
    from platforms.runpod.worker import main as work

    work()
    return 0


if __name__ == "__main__":
    sys.exit(main())

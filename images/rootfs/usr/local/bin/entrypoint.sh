#!/bin/sh
# The one start script: ENTRYPOINT in args mode, Vast's onstart in ssh and jupyter mode, and again after every reboot.
exec /opt/gesso/venv/bin/gesso boot "$@"

#!/bin/sh
# The only start script: ENTRYPOINT in args mode, Vast's onstart in ssh and jupyter mode, also after every reboot.
exec /opt/gesso/venv/bin/gesso boot "$@"

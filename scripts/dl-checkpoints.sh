#!/bin/sh
# Downloads all models of the catalog before the first job; `--pipeline text-to-image` narrows it.
exec pilotlight models download --all "$@"

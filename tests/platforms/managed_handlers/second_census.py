"""The census of another pipeline with the same models; a pipeline for tests, without torch."""

from shared.schemas import Handler
from tests.platforms.managed_handlers.census import CensusParams, load, run

handler = Handler(params=CensusParams, load=load, run=run, torch=False)

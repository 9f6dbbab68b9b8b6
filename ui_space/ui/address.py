"""The job in the page's address, `?job=PIPELINE/ID`, by which a reload takes it up again."""

from ui.endpoint import JOB_ID

_SHOW = """(job, ...more) => {
  const address = new URL(window.location);
  if (job) address.searchParams.set("job", "PIPELINE/" + job);
  else address.searchParams.delete("job");
  window.history.replaceState(window.history.state, "", address);
  return [job, ...more];
}"""


def shown(pipeline: str) -> str:
    """JavaScript for an event whose first input is a job: puts it into the address, and passes all inputs on."""
    return _SHOW.replace("PIPELINE", pipeline)


def read(value: str) -> tuple[str, str] | None:
    """Pipeline and job of an address; None where it names none. Anybody can write anything there."""
    pipeline, _, job = value.partition("/")
    return (pipeline, job) if JOB_ID.fullmatch(job.partition("#")[0]) else None

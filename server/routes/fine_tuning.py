"""OpenAI's fine-tuning jobs: made, listed, followed by their events and checkpoints, paused, resumed and cancelled.

Whoever makes or steers a job needs an admin key, because what comes of it is a name for everybody; to look at jobs is
everybody's who has their owner's key.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from adapters.training.job import Event, Job
from adapters.training.jobs import Page
from adapters.training.method import Auto, Hyperparameters, Method, Publish
from adapters.training.method import Settings as MethodSettings
from retrieval.fields import read_metadata
from server.answering import read_as
from server.auth import require_admin, seen_by
from server.errors import ApiError
from server.job_intake import NewJob
from server.routes.lists import listed, poll_after
from server.services import CallerDep, Services, ServicesDep
from server.storage.callers import Caller
from server.threads import run_in
from server.upload import told_when_full

router = APIRouter()

METADATA = re.compile(r"metadata\[(.*)\]", re.DOTALL)
LARGEST_SEED = 2**63 - 1
FOLLOWED_SECONDS = 5.0  # by then the change feed has brought what other processes registered

After = Annotated[str | None, Query()]


class OldHyperparameters(BaseModel):
    """What stood beside `method` before there was one; the job is then a supervised one."""

    model_config = ConfigDict(extra="forbid")
    n_epochs: Auto | Annotated[int, Field(ge=1, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=1024)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"


class NewFineTuningJob(BaseModel):
    """Body of POST /v1/fine_tuning/jobs; `publish` is ours. `metadata` is read by `retrieval.fields`."""

    model_config = ConfigDict(extra="forbid")
    model: Annotated[str, Field(min_length=1)]
    training_file: Annotated[str, Field(min_length=1)]
    validation_file: Annotated[str, Field(min_length=1)] | None = None
    suffix: Annotated[str, Field(min_length=1)] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = None
    method: Method | None = None
    hyperparameters: OldHyperparameters | None = None
    publish: Publish = "always"
    metadata: Any = None
    integrations: Any = None


@router.post("/v1/fine_tuning/jobs")
async def create_job(request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """Answered when every line of the data has been read; the job waits for its turn then.

    https://platform.openai.com/docs/api-reference/fine-tuning/create
    """
    require_admin(caller)
    new = _new_job(await read_as(request, NewFineTuningJob))
    job = await run_in(services.data_pool, _take, services, new, caller)
    return JSONResponse(job.as_object())


@router.get("/v1/fine_tuning/jobs")
async def list_jobs(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: After = None,
) -> Response:
    """Newest first; `metadata[k]=v` for those that have the pair, `metadata=null` for those that have none.

    https://platform.openai.com/docs/api-reference/fine-tuning/list
    """
    wanted = _metadata_filter(request)

    def read() -> Page[Job]:
        page = services.jobs.list(seen_by(caller), limit=limit, after=after, metadata=wanted)
        _follow(services, max((job.finished_at or 0.0 for job in page.items), default=0.0))
        return page

    page = await run_in(services.storage_pool, read)
    return JSONResponse(listed([job.as_object() for job in page.items], has_more=page.has_more))


@router.get("/v1/fine_tuning/jobs/{job_id}")
async def retrieve_job(job_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/fine-tuning/retrieve"""

    def read() -> Job:
        job = services.jobs.get(job_id, seen_by(caller))
        _follow(services, job.finished_at or 0.0)
        return job

    job = await run_in(services.storage_pool, read)
    return JSONResponse(job.as_object(), headers=poll_after(job.is_over))


@router.post("/v1/fine_tuning/jobs/{job_id}/cancel")
async def cancel_job(job_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """A running job ends after the step that it is at; until then `wanted` says so.

    https://platform.openai.com/docs/api-reference/fine-tuning/cancel
    """
    return await _steered(services.jobs.cancel, job_id, caller, services)


@router.post("/v1/fine_tuning/jobs/{job_id}/pause")
async def pause_job(job_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """It keeps what it has learnt, and makes room for the next job.

    https://platform.openai.com/docs/api-reference/fine-tuning/pause
    """
    return await _steered(services.jobs.pause, job_id, caller, services)


@router.post("/v1/fine_tuning/jobs/{job_id}/resume")
async def resume_job(job_id: str, caller: CallerDep, services: ServicesDep) -> Response:
    """https://platform.openai.com/docs/api-reference/fine-tuning/resume"""
    return await _steered(services.jobs.resume, job_id, caller, services)


@router.get("/v1/fine_tuning/jobs/{job_id}/events")
async def list_events(
    job_id: str,
    caller: CallerDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    after: After = None,
) -> Response:
    """Newest first.

    https://platform.openai.com/docs/api-reference/fine-tuning/list-events
    """

    def read() -> Page[Event]:
        page = services.jobs.events(job_id, seen_by(caller), limit, after)
        _follow(services, max((event.created_at for event in page.items if event.type == "message"), default=0.0))
        return page

    page = await run_in(services.storage_pool, read)
    return JSONResponse(listed([event.as_object() for event in page.items], has_more=page.has_more))


@router.get("/v1/fine_tuning/jobs/{job_id}/checkpoints")
async def list_checkpoints(
    job_id: str,
    caller: CallerDep,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    after: After = None,
) -> Response:
    """Newest first; each names a version that is served.

    https://platform.openai.com/docs/api-reference/fine-tuning/list-checkpoints
    """
    page = await run_in(services.storage_pool, services.jobs.checkpoints, job_id, seen_by(caller), limit, after)
    return JSONResponse(listed([checkpoint.as_object() for checkpoint in page.items], has_more=page.has_more))


def _follow(services: Services, ended_at: float) -> None:
    """Who reads that a job has succeeded may ask its model at once: what the worker registered is read before that.

    The change feed brings it too, but a moment later. ended_at: Unix seconds of the latest end that will be told.
    """
    if time.time() - ended_at < FOLLOWED_SECONDS:
        services.registry.refresh()


async def _steered(
    steer: Callable[[str, str | None], Job], job_id: str, caller: Caller, services: Services
) -> Response:
    require_admin(caller)
    job = await run_in(services.storage_pool, steer, job_id, seen_by(caller))
    return JSONResponse(job.as_object(), headers=poll_after(job.is_over))


def _take(services: Services, new: NewJob, caller: Caller) -> Job:
    with told_when_full():
        return services.job_intake.take(new, owner=caller.owner, sees=seen_by(caller))


def _new_job(body: NewFineTuningJob) -> NewJob:
    if body.integrations:
        raise ApiError(
            400, "integrations: this server sends nothing to other services; leave it out", param="integrations"
        )
    return NewJob(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=body.seed,
        method=_method(body),
        publish=body.publish,
        metadata=read_metadata(body.metadata),
    )


def _method(body: NewFineTuningJob) -> Method:
    if body.hyperparameters is None:
        return body.method or Method()
    if body.method is not None:
        raise ApiError(400, "give the hyperparameters inside `method`, not beside it as well", param="hyperparameters")
    given = Hyperparameters.model_validate(body.hyperparameters.model_dump(exclude_unset=True))
    return Method(type="supervised", supervised=MethodSettings(hyperparameters=given))


def _metadata_filter(request: Request) -> dict[str, str] | None:
    """None for no filter, the empty one for jobs without metadata."""
    query = request.query_params
    pairs = {found[1]: value for key, value in query.multi_items() if (found := METADATA.fullmatch(key))}
    if "metadata" not in query:
        return pairs or None
    if pairs or query["metadata"] != "null":
        raise ApiError(400, "metadata: filter by `metadata[key]=value`, or by `metadata=null`", param="metadata")
    return {}

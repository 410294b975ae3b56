"""`invoke publish`: push a tested image to a registry, read it back, attach and sign the evidence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.builder.evidence import attach, contents, cosign
from gesso.builder.evidence.sbom import Subject, bill, count_components
from gesso.builder.image import contract_report
from gesso.builder.image.build import prepare
from gesso.builder.image.plan import tags_of as local_tags
from gesso.builder.publish import plan as planning
from gesso.builder.publish import preconditions
from gesso.builder.publish.published import Published
from gesso.builder.registry import credentials, local_image, readback, reference, remote_image
from gesso.builder.registry import push as pushing
from gesso.builder.registry.client import Registry
from gesso.builder.registry.push_view import PushView
from gesso.builder.registry.tags import check_fixed, tags_of
from gesso.dotenv import with_tokens
from gesso.errors import GessoError, PublishError
from gesso.redact import redact, secret_values
from gesso.settings import select

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import docker

    from gesso.builder.evidence.contents import Contents
    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.follow_up import FollowUp, FollowUpResult
    from gesso.builder.publish.plan import Plan
    from gesso.builder.publish.request import PublishRequest
    from gesso.builder.registry.reference import Reference
    from gesso.builder.registry.remote_image import RemoteImage
    from gesso.manifest.schema import Manifest
    from gesso.settings import Project, Selection

_MAX_OTHER_TAGS = 10  # images that a dry run reads to find existing layers: Docker Hub counts each as a pull


@dataclass(frozen=True)
class _Job:
    """Input of every step."""

    request: PublishRequest
    selection: Selection
    manifest: Manifest
    locked: Locked
    repository: Reference
    registry: Registry
    client: docker.DockerClient
    view: PushView
    follow_up: FollowUp | None


def publish(
    project: Project, request: PublishRequest, env: Mapping[str, str], follow_up: FollowUp | None = None
) -> None:
    """Publish an image and print the result; with `dry_run` only print the plan. Raises GessoError."""
    selection = select(project, request.arch, request.overlays, trial=request.trial)
    repository = reference.repository(request.registry)
    preconditions.refuse_trial(repository, trial=request.trial)
    signer = request.signer()
    manifest, locked = prepare(selection)
    tokens = with_tokens(project.root, env)
    if follow_up:
        follow_up.check(manifest, locked, repository, dry_run=request.dry_run)
    with local_image.engine(env) as client, PushView() as view:
        image = local_image.read(client, request.image or local_tags(request.arch, trial=request.trial)[0])
        contract = contract_report.contract_of(project.root / "tests" / "image")
        problems = preconditions.examine(
            image, preconditions.Expected(request.arch, request.trial, locked.lock.sha256, contract), env
        )
        if not request.dry_run:
            preconditions.refuse(image, problems, selection.flags)
        preconditions.check_layers(image, request.layer_limit)
        tool = cosign.find(credentials.ca_file(repository.host)) if signer else None
        public = cosign.check_signer(tool, signer, env) if tool and signer else ""
        registry = Registry.of(repository, env, writes=True)
        job = _Job(request, selection, manifest, locked, repository, registry, client, view, follow_up)
        image_contents = contents.read(client, image)
        plan = _plan(job, image, image_contents, problems)
        if request.dry_run:
            _print_plan(job, plan, tokens)
            return
        check_fixed(repository, image, plan.existing, plan.tags)
        remote, pushed = _push(job, plan)
        subject = Subject(repository.repository, remote.digest, _version(image.labels), image.created)
        evidence = attach.make(subject, image_contents, image.labels, _invocation(job, image_contents), env)
        attached = (
            attach.attach(tool, signer, public, remote.reference, evidence, view.on_progress) if tool and signer else {}
        )
        _tag(job, plan, remote)
        published = Published(repository.repository, remote.digest, plan.tags.all, remote.compressed, image.size)
        _print_result(job, published, _Outcome(pushed, attached, _run_follow_up(job, published)), tokens)


@dataclass(frozen=True)
class _Outcome:
    """What was done besides the image itself."""

    pushed: bool
    attached: Mapping[str, str]
    follow_up: FollowUpResult | None


def _run_follow_up(job: _Job, published: Published) -> FollowUpResult | None:
    """Run the step that follows the push. Raises GessoError after reporting that the image itself is published."""
    if job.follow_up is None:
        return None
    try:
        return job.follow_up.run(job.selection, (job.manifest, job.locked), published, job.view.on_progress)
    except GessoError:
        job.view.on_progress(f"published: {published.reference}; its {job.follow_up.name} is not published")
        raise


def _plan(job: _Job, image: local_image.LocalImage, image_contents: Contents, problems: list[str]) -> Plan:
    """Read what the registry has, and return the plan."""
    version = _version(image.labels)
    tags = tags_of(job.request.arch, version, job.manifest.hardware.cuda, trial=job.request.trial)
    existing = {tag: remote_image.read(job.registry, job.repository.tagged(tag)) for tag in tags.all}
    known = [each for each in existing.values() if each is not None]
    for tag in _other_tags(job, existing) if job.request.dry_run else ():
        with suppress(PublishError):  # other tags need not be images
            found = remote_image.read(job.registry, job.repository.tagged(tag))
            known += [found] if found is not None else []
    subject = Subject(job.repository.repository, image.image_id, version, image.created)
    counts = count_components(bill(subject, image_contents))
    rows = planning.rows(image, known)
    return planning.Plan(image, job.repository, tags, existing, rows, tuple(problems), counts, job.request.signed)


def _other_tags(job: _Job, checked: Collection[str]) -> list[str]:
    """Return the last few other tags of the repository, without cosign's own."""
    tags = [tag for tag in job.registry.tags(job.repository) if not tag.startswith("sha256-")]
    return [tag for tag in tags if tag not in checked][-_MAX_OTHER_TAGS:]


def _push(job: _Job, plan: Plan) -> tuple[RemoteImage, bool]:
    """Push the image where the registry lacks it; return it as read back, and whether it was pushed."""
    existing = next((found for tag in plan.tags.fixed if (found := plan.existing.get(tag)) is not None), None)
    if existing is not None:  # the same image: check_fixed refused a fixed tag of another one
        job.view.on_progress(f"{existing.reference}: exists already; reading it back")
        return readback.read_back(job.registry, existing.reference, plan.image), False
    target = job.repository.tagged(plan.tags.fixed[0])
    job.view.on_progress(f"pushing to {target}")
    job.view.watch(plan.image)
    login = job.registry.http.login
    digest = pushing.push(job.client, plan.image, target, login, (job.view.on_step, job.view.on_progress))
    job.view.end()
    job.view.on_progress(f"reading back {digest}")
    return readback.read_back(job.registry, job.repository.at(digest), plan.image), True


def _tag(job: _Job, plan: Plan, remote: RemoteImage) -> None:
    """Point the other tags to the digest, the moving one last."""
    for tag in plan.tags.all:
        found = job.registry.manifest(job.repository.tagged(tag))
        if found is not None and found.digest != remote.digest and tag != plan.tags.moving:
            raise PublishError(
                f"{job.repository.tagged(tag)} was set to {found.digest} meanwhile, and is never moved",
                "find out who else publishes to this repository; then publish again",
            )
        if found is None or found.digest != remote.digest:
            job.registry.put_manifest(job.repository.tagged(tag), remote.manifest)
            job.view.on_progress(f"{job.repository.tagged(tag)}: {remote.digest}")


def _invocation(job: _Job, image_contents: Contents) -> dict[str, Any]:
    """Return the parameters of the build, from the image and its selection."""
    names = [path.name for path in job.selection.overlays]
    return {
        "arch": job.request.arch,
        "trial": job.request.trial,
        "overlays": names,
        "baked": list(image_contents.record["baked"]),
    }


def _version(labels: Mapping[str, str]) -> str:
    return labels.get("org.opencontainers.image.version", "0")


def _print_plan(job: _Job, plan: Plan, env: Mapping[str, str]) -> None:
    """Print the plan; raise what the publish itself would raise."""
    hidden = secret_values(env)
    result = None
    if job.follow_up:
        found = plan.published  # before the first push its digest is unknown
        digest, compressed = (found.digest, found.compressed) if found else (f"sha256:{'0' * 64}", 0)
        image = Published(job.repository.repository, digest, plan.tags.all, compressed, plan.image.size)
        prepared = (job.manifest, job.locked)
        result = job.follow_up.run(job.selection, prepared, image, job.view.on_progress, dry_run=True)
    if job.request.as_json:
        report.result_json(redact({"dry_run": True, **plan.as_json(), **_follow_up_json(job, result)}, hidden))
    else:
        lines = plan.lines() + ([result.as_text()] if result else [])
        report.result(str(redact("\n".join(lines), hidden)))
    preconditions.refuse(plan.image, list(plan.missing), job.selection.flags)
    check_fixed(job.repository, plan.image, plan.existing, plan.tags)


def _follow_up_json(job: _Job, result: FollowUpResult | None) -> dict[str, Any]:
    return {job.follow_up.name: result.as_json()} if job.follow_up and result else {}


def _print_result(job: _Job, published: Published, done: _Outcome, env: Mapping[str, str]) -> None:
    found = {
        "reference": published.reference, "digest": published.digest, "tags": list(published.tags),
        "pushed": done.pushed, "compressed": published.compressed, "unpacked": published.unpacked,
        "evidence": dict(done.attached), "trial": job.request.trial,
        **_follow_up_json(job, done.follow_up),
    }  # fmt: skip
    if job.request.as_json:
        report.result_json(redact(found, secret_values(env)))
        return
    rows = [
        f"{'TRIAL ' * job.request.trial}published  {published.reference}",
        f"tags       {', '.join(published.tags)}",
        f"size       {published.compressed / 1e6:,.1f} MB to pull, {published.unpacked / 1e6:,.1f} MB unpacked",
        "evidence   "
        + (", ".join(f"{name}: {state}" for name, state in done.attached.items()) or "NONE: it is not signed"),
    ]
    rows += [done.follow_up.as_text()] if done.follow_up else []
    report.result("\n".join(rows))

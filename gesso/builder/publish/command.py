"""`invoke publish`: a checked image goes to a registry, is read back, and gets what lets strangers trust it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.builder.evidence import attach, contents, cosign
from gesso.builder.evidence.sbom import Subject, bill, counted
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
from gesso.builder.vast.template import renting
from gesso.dotenv import with_tokens
from gesso.errors import GessoError, PublishError
from gesso.redact import redact, secret_values
from gesso.settings import select

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import docker

    from gesso.builder.evidence.contents import Contents
    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.plan import Plan
    from gesso.builder.publish.request import Wish
    from gesso.builder.registry.reference import Reference
    from gesso.builder.registry.remote_image import RemoteImage
    from gesso.builder.vast.template.command import Outcome
    from gesso.manifest.schema import Manifest
    from gesso.settings import Project, Selection

_KNOWN = 10  # images of a repository that are looked at for layers that are there: Docker Hub counts each as a pull


@dataclass(frozen=True)
class _Job:
    """What every step needs."""

    wish: Wish
    selection: Selection
    manifest: Manifest
    locked: Locked
    repository: Reference
    registry: Registry
    client: docker.DockerClient
    view: PushView


def publish(project: Project, wish: Wish, env: Mapping[str, str]) -> None:
    """Publish, or with `dry_run` only tell; print the result. Raises every kind of GessoError."""
    selection = select(project, wish.arch, wish.overlays, trial=wish.trial)
    repository = reference.repository(wish.registry)
    preconditions.refuse_trial(repository, trial=wish.trial)
    signer = wish.signer()
    manifest, locked = prepare(selection)
    tokens = with_tokens(project.root, env)
    if wish.vast:
        renting.ready(manifest, locked, repository, tokens, dry_run=wish.dry_run)
    with local_image.engine(env) as client, PushView() as view:
        image = local_image.read(client, wish.image or local_tags(wish.arch, trial=wish.trial)[0])
        contract = contract_report.contract_of(project.root / "tests" / "image")
        problems = preconditions.examine(
            image, preconditions.Wanted(wish.arch, wish.trial, locked.lock.sha256, contract), env
        )
        if not wish.dry_run:
            preconditions.refuse(image, problems, selection.flags)
        preconditions.check_layers(image, wish.layer_limit)
        tool = cosign.find(credentials.certificate(repository.host)) if signer else None
        public = cosign.check_signer(tool, signer, env) if tool and signer else ""
        job = _Job(
            wish, selection, manifest, locked, repository, Registry.of(repository, env, writes=True), client, view
        )
        inside = contents.read(client, image)
        plan = _plan(job, image, inside, problems)
        if wish.dry_run:
            _tell_plan(job, plan, tokens)
            return
        check_fixed(repository, image, plan.there, plan.tags)
        remote, pushed = _push(job, plan)
        subject = Subject(repository.repository, remote.digest, _version(image.labels), image.created)
        made = attach.make(subject, inside, image.labels, _invocation(job, inside), env)
        attached = attach.attach(tool, signer, public, remote.reference, made, view.say) if tool and signer else {}
        _tag(job, plan, remote)
        published = Published(repository.repository, remote.digest, plan.tags.all, remote.compressed, image.size)
        try:
            template = renting.make(selection, (manifest, locked), published, tokens, view.say) if wish.vast else None
        except GessoError:
            view.say(f"published: {published.reference}; its template is not")
            raise
        _tell(job, published, _Done(pushed, attached, template), tokens)


@dataclass(frozen=True)
class _Done:
    """What came of it beside the image."""

    pushed: bool
    attached: Mapping[str, str]
    template: Outcome | None


def _plan(job: _Job, image: local_image.LocalImage, inside: Contents, problems: list[str]) -> Plan:
    """Look at what the registry has, and decide."""
    version = _version(image.labels)
    tags = tags_of(job.wish.arch, version, job.manifest.hardware.cuda, trial=job.wish.trial)
    there = {tag: remote_image.read(job.registry, job.repository.tagged(tag)) for tag in tags.all}
    known = [each for each in there.values() if each is not None]
    for tag in _others(job, there) if job.wish.dry_run else ():
        with suppress(PublishError):  # what else lies there may be no image at all
            found = remote_image.read(job.registry, job.repository.tagged(tag))
            known += [found] if found is not None else []
    subject = Subject(job.repository.repository, image.image_id, version, image.created)
    counts = counted(bill(subject, inside))
    rows = planning.rows(image, known)
    return planning.Plan(image, job.repository, tags, there, rows, tuple(problems), counts, job.wish.signed)


def _others(job: _Job, looked_at: Collection[str]) -> list[str]:
    """Name some more images of the repository; what cosign keeps there is none."""
    tags = [tag for tag in job.registry.tags(job.repository) if not tag.startswith("sha256-")]
    return [tag for tag in tags if tag not in looked_at][-_KNOWN:]


def _push(job: _Job, plan: Plan) -> tuple[RemoteImage, bool]:
    """Have the image in the registry, and give it as read back; and whether anything had to be pushed."""
    there = next((found for tag in plan.tags.fixed if (found := plan.there.get(tag)) is not None), None)
    if there is not None:  # the same image: a fixed tag that leads to another one has ended this before
        job.view.say(f"{there.reference}: is there already; reading it back")
        return readback.read_back(job.registry, there.reference, plan.image), False
    target = job.repository.tagged(plan.tags.fixed[0])
    job.view.say(f"pushing to {target}")
    job.view.watch(plan.image)
    login = job.registry.wire.login
    digest = pushing.push(job.client, plan.image, target, login, (job.view.on_step, job.view.say))
    job.view.end()
    job.view.say(f"reading back {digest}")
    return readback.read_back(job.registry, job.repository.at(digest), plan.image), True


def _tag(job: _Job, plan: Plan, remote: RemoteImage) -> None:
    """Have the other tags lead to the digest, the moving one last."""
    for tag in plan.tags.all:
        found = job.registry.manifest(job.repository.tagged(tag))
        if found is not None and found.digest != remote.digest and tag != plan.tags.moving:
            raise PublishError(
                f"{job.repository.tagged(tag)} has become {found.digest} meanwhile, and is never moved",
                "see who else publishes there; then publish again",
            )
        if found is None or found.digest != remote.digest:
            job.registry.put_manifest(job.repository.tagged(tag), remote.manifest)
            job.view.say(f"{job.repository.tagged(tag)} is {remote.digest}")


def _invocation(job: _Job, inside: Contents) -> dict[str, Any]:
    """Give the parameters of the build, by what the image and its selection say."""
    names = [path.name for path in job.selection.overlays]
    return {"arch": job.wish.arch, "trial": job.wish.trial, "overlays": names, "baked": list(inside.record["baked"])}


def _version(labels: Mapping[str, str]) -> str:
    return labels.get("org.opencontainers.image.version", "0")


def _tell_plan(job: _Job, plan: Plan, env: Mapping[str, str]) -> None:
    """Print what would be done; fail as the publish itself would."""
    hidden = secret_values(env)
    template = None
    if job.wish.vast:
        found = plan.published  # before the first push its digest is not known
        digest, compressed = (found.digest, found.compressed) if found else (f"sha256:{'0' * 64}", 0)
        shown = Published(job.repository.repository, digest, plan.tags.all, compressed, plan.image.size)
        template = renting.make(job.selection, (job.manifest, job.locked), shown, env, job.view.say, dry_run=True)
    if job.wish.as_json:
        said = {"dry_run": True, **plan.as_json(), **({"template": template.as_json()} if template else {})}
        report.result_json(redact(said, hidden))
    else:
        lines = plan.lines() + ([renting.describe(template)] if template else [])
        report.result(str(redact("\n".join(lines), hidden)))
    preconditions.refuse(plan.image, list(plan.missing), job.selection.flags)
    check_fixed(job.repository, plan.image, plan.there, plan.tags)


def _tell(job: _Job, published: Published, done: _Done, env: Mapping[str, str]) -> None:
    found = {
        "reference": published.reference, "digest": published.digest, "tags": list(published.tags),
        "pushed": done.pushed, "compressed": published.compressed, "unpacked": published.unpacked,
        "evidence": dict(done.attached), "trial": job.wish.trial,
        **({"template": done.template.as_json()} if done.template else {}),
    }  # fmt: skip
    if job.wish.as_json:
        report.result_json(redact(found, secret_values(env)))
        return
    rows = [
        f"{'TRIAL ' * job.wish.trial}published  {published.reference}",
        f"tags       {', '.join(published.tags)}",
        f"size       {published.compressed / 1e6:,.1f} MB to pull, {published.unpacked / 1e6:,.1f} MB unpacked",
        "evidence   "
        + (", ".join(f"{name}: {said}" for name, said in done.attached.items()) or "NONE: it is not signed"),
    ]
    rows += [renting.describe(done.template)] if done.template else []
    report.result("\n".join(rows))

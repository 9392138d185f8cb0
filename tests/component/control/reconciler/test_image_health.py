"""The health check of an image: its changes are recorded, and nothing else follows from them."""

from __future__ import annotations

import pytest

from tests.support.docker_images import image
from tests.support.docker_runtime import SLEEPS
from tests.support.docker_site import DockerSite
from tests.support.wait import eventually

pytestmark = pytest.mark.docker

CHECK = {"Test": ["CMD-SHELL", "test -e /tmp/well"], "Interval": 100_000_000, "Retries": 1}


async def test_each_change_of_the_health_is_an_event_and_the_deployment_stays_running(
    site: DockerSite,
) -> None:
    with image(site.api, f"health-{site.world.install}", Healthcheck=CHECK) as reference:
        async with site.server():
            deployment, instance = await site.running("touch /tmp/well; " + SLEEPS, docker_image=reference)
            for codes, command in (
                (["healthy"], ("rm", "/tmp/well")),
                (["healthy", "unhealthy"], ("touch", "/tmp/well")),
                (["healthy", "unhealthy", "healthy"], ("true",)),
            ):
                await _has_recorded(site, deployment, codes)
                site.run_in(instance, *command)
            assert await site.world.state(deployment) == "RUNNING"
            await site.world.stop(deployment)
            await site.world.reaches(deployment, "STOPPED")
            (attempt,) = await site.world.attempts(deployment)
            assert (attempt.health, attempt.restarted_at) == ("healthy", None)


async def _has_recorded(site: DockerSite, deployment: int, codes: list[str]) -> None:
    async def recorded() -> bool:
        events = [one for one in await site.world.events(deployment) if one.type == "deployment.health"]
        assert [event.code for event in events] == codes
        (attempt,) = await site.world.attempts(deployment)
        return attempt.health == codes[-1]

    await eventually(recorded)

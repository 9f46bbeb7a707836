"""What every `Backend` and its runners promise, as a pytest suite (needs pytest and pytest-asyncio in auto mode).

    class TestMyBackend(BackendContract):
        @pytest.fixture
        async def backend(self) -> AsyncIterator[Backend]:
            backend = create(context)
            yield backend
            await backend.aclose()

        @pytest.fixture
        def available(self) -> str:
            return "demo/tiny-llama v2"            # it must be there already, or be installed by the fixture

Where loading takes long, override `runner` with a class-scoped fixture (and mark the class
`pytest.mark.asyncio(loop_scope="class")`): every test that takes `runner` leaves it loaded and serving. Tests that close
one take `fresh`.

Source: `xprim_nb.workers.contract`; spec 4 §Install on first use, §Workers.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from xprim_nb.errors import ConfigError, LoadFailedError, ModelNotFoundError, NotInstalledError
from xprim_nb.testing.runner_contract import Answer, Given, RunnerContract, read
from xprim_nb.workers.contract import Backend
from xprim_nb.workers.values import InstallProgress, LoadOptions

__all__ = ["Answer", "BackendContract", "read"]


class _Availability(Given):
    async def test_missing_models_are_told_in_their_order(
        self, backend: Backend, available: str, missing: str
    ) -> None:
        """Of the names that are asked for, those that are missing come back, in their order."""
        other = f"{missing}1"
        assert await backend.check_model_availability([missing, available, other]) == [missing, other]
        assert await backend.check_model_availability([available]) == []
        assert await backend.check_model_availability([]) == []

    async def test_install_brings_a_model_once(self, backend: Backend, installable: str | None) -> None:
        """Installation tells its progress, makes the model available, and does nothing the second time."""
        if installable is None:
            assert not backend.capabilities.can_install
            return
        told: list[InstallProgress] = []
        assert await backend.check_model_availability([installable]) == [installable]
        await backend.install_model(installable, told.append)
        assert await backend.check_model_availability([installable]) == []
        assert {each.name for each in told} == {installable}
        assert all(each.done_bytes >= 0 for each in told)
        assert all(0.0 <= each.fraction <= 1.0 for each in told)
        assert told[-1].fraction == 1.0
        await backend.install_model(installable, told.append)
        assert await backend.check_model_availability([installable]) == []

    async def test_installing_what_is_there_changes_nothing(self, backend: Backend, available: str) -> None:
        """Every backend can be asked to install a model that is there."""
        await backend.install_model(available, lambda _: None)
        assert await backend.check_model_availability([available]) == []

    async def test_what_nobody_has_cannot_be_installed(self, backend: Backend, missing: str) -> None:
        """A model that is nowhere is a ModelNotFoundError that names it."""
        with pytest.raises(ModelNotFoundError) as caught:
            await backend.install_model(missing, lambda _: None)
        assert missing in f"{caught.value} {caught.value.subject}"

    async def test_recommendations_have_reasons(self, backend: Backend) -> None:
        """What is recommended has a name and a sentence."""
        recommended = await backend.get_recommended_models()
        assert all(each.name and each.why for each in recommended)

    async def test_facts_are_the_models_own(
        self, backend: Backend, available: str, options: LoadOptions
    ) -> None:
        """Facts name the model and its backend, stay the same, and count bytes only of what runs here."""
        facts = await backend.facts(available, options)
        assert (facts.name, facts.backend) == (available, backend.name)
        assert facts.fingerprint
        assert await backend.facts(available, options) == facts
        assert facts.is_remote == backend.capabilities.is_remote
        if facts.is_remote:
            assert facts.weight_bytes == 0
            assert not facts.footprint_bytes
        else:
            assert facts.weight_bytes > 0
            assert min(facts.layers, facts.key_value_heads, facts.head_dim, facts.vocabulary) > 0

    async def test_what_is_missing_has_no_facts_and_cannot_be_loaded(
        self, backend: Backend, missing: str, options: LoadOptions
    ) -> None:
        """A model that is not there is a NotInstalledError, whether facts or the model are asked for."""
        with pytest.raises(NotInstalledError):
            await backend.facts(missing, options)
        with pytest.raises(NotInstalledError):
            await backend.load(missing, options, lambda *_: None)

    async def test_unknown_settings_are_refused_by_name(
        self, backend: Backend, available: str, options: LoadOptions
    ) -> None:
        """A setting that the backend does not have is refused, and named."""
        strange = replace(options, settings={**options.settings, "no_such_setting": 1})
        with pytest.raises((LoadFailedError, ConfigError), match="no_such_setting"):
            await backend.load(available, strange, lambda *_: None)

    async def test_loading_tells_how_far_it_is(
        self, backend: Backend, available: str, options: LoadOptions
    ) -> None:
        """Progress is a fraction with a text; what is loaded says where it runs and how much room it has."""
        told: list[tuple[float, str]] = []
        runner = await backend.load(available, options, lambda *each: told.append(each))
        try:
            assert all(0.0 <= fraction <= 1.0 and text is not None for fraction, text in told)
            assert (runner.pid is not None) == backend.capabilities.has_process
            assert runner.context_tokens > 0
            assert (runner.measured.host_bytes > 0) == backend.capabilities.has_process
            assert not runner.ended.done()
        finally:
            await runner.close()

    async def test_a_cancelled_load_can_be_repeated(
        self, backend: Backend, available: str, options: LoadOptions
    ) -> None:
        """Whoever gives up on loading leaves nothing behind that would stand in the way of the next."""
        loading = asyncio.ensure_future(backend.load(available, options, lambda *_: None))
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        runner = await backend.load(available, options, lambda *_: None)
        await runner.close()

    async def test_closing_a_backend_twice_is_closing_once(self, backend: Backend) -> None:
        """`aclose` may be called again, and before anything was asked."""
        await backend.aclose()
        await backend.aclose()


class BackendContract(_Availability, RunnerContract):
    """Subclass it as `Test…` and give it the fixtures `backend` and `available`, and others where theirs do not fit.

    Backends are closed by the fixture, runners by the suite.
    """

"""A catalog as the configuration of LiteLLM Proxy, with what the proxy cannot do said at its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelrouter.catalog.catalog import Catalog
from modelrouter.catalog.target import Resolved, Target
from modelrouter.environment import STORE

from .deployments import EMBEDDED, Variables, costs, parameters
from .differences import GENERAL, SENTENCES, Remark
from .writing import commented, dumped, header, number

MASTER_KEY = "LITELLM_MASTER_KEY"
"""The variable with the key that the proxy's clients have to give."""

_FALLBACKS = 5
"""As many as the proxy goes through when it is told nothing."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file, and what there is to say about it."""

    text: str
    variables: Mapping[str, str]
    """Those that have to be set where the proxy runs -> what has to be in them, where the name does not say."""
    remarks: Sequence[Remark]
    """What is said at its place in the file; what holds for every catalog stands at its top."""


def export(catalog: Catalog, *, redis: bool) -> Export:
    """`redis`: MODELROUTER_STORE names one, and so answers can be remembered."""
    return _Writer(catalog, redis=redis).export()


class _Writer:
    def __init__(self, catalog: Catalog, *, redis: bool) -> None:
        self._catalog = catalog
        self._redis = redis
        self._variables = Variables()
        self._remarks: dict[Remark, None] = {}
        models = {target.served_as for target in catalog.models.values()}
        self._taken = {*catalog.modules, *catalog.models, *catalog.aliases, *models}
        self._modules = [catalog.resolve(name) for name in catalog.modules]
        self._links = {resolved.module: self._linked(resolved) for resolved in self._modules}
        """Module -> group -> the model in it, in the order of its chain."""
        self._ends = {alias: catalog.resolve(model=alias).chain[0] for alias in catalog.aliases}
        chains = [*self._ends.values(), *(target for resolved in self._modules for target in resolved.chain)]
        self._models = {**catalog.models, **{target.name: target for target in chains if not target.listed}}
        self._groups = {name: target.served_as for name, target in self._models.items() if target.provider != EMBEDDED}
        """Model -> the group that it has for itself."""

    def _linked(self, resolved: Resolved) -> dict[str, Target]:
        links: dict[str, Target] = {}
        for target in resolved.chain:
            if target.provider != EMBEDDED:
                group = self._free(f"{resolved.module}/{len(links) + 1}") if links else resolved.module
                links[group] = target
        return links

    def _free(self, group: str) -> str:
        """A name that nothing else has."""
        while group in self._taken:
            group += "_"
        self._taken.add(group)
        return group

    def export(self) -> Export:
        entries = [*self._of_modules(), *self._of_models()]
        settings = [*self._router(), "", *self._litellm()]
        made = (
            f"The configuration of LiteLLM Proxy that 'modelrouter export litellm-proxy' makes of {self._catalog.path}."
        )
        top = [
            made,
            "",
            "Variables to be set where it runs; for a key that is not, LiteLLM may send OPENAI_API_KEY instead:",
            *(f"- {name}{f': {what}' if what else ''}" for name, what in self._needed().items()),
            "",
            "What the proxy does otherwise than modelrouter:",
            *(f"- {about}: {text}" for about, text in GENERAL.items()),
        ]
        text = "\n".join([*commented(top), "", "model_list:", *entries, "", *settings, ""])
        return Export(text, self._needed(), tuple(self._remarks))

    def _needed(self) -> dict[str, str]:
        own = {MASTER_KEY: "what clients of the proxy give as their key; long and random"}
        return dict(sorted({**self._variables.needed, **own}.items()))

    # -- the entries

    def _of_modules(self) -> Iterator[str]:
        for resolved in self._modules:
            place, links = f"modules.{resolved.module}", self._links[resolved.module]
            yield ""
            yield from commented([f"{place}: {', '.join(target.name for target in resolved.chain)}"], "  ")
            yield from self._said(*self._about(resolved, place, links))
            for group, target in links.items():
                yield from self._entry(group, target, resolved)

    def _about(self, resolved: Resolved, place: str, links: Mapping[str, Target]) -> Iterator[Remark]:
        settings = resolved.settings
        for target in resolved.chain:
            if target.provider == EMBEDDED:
                yield Remark("embedded", f"{place}.chain, {target.name}", SENTENCES["embedded"])
        if not links:
            yield Remark("no model", place, SENTENCES["no model"])
            return
        longest = sum((1 + settings.retries) * (target.timeout or settings.timeout) for target in links.values())
        said = f"{settings.deadline:g} s, {SENTENCES['deadline']} {longest:g} s and the pauses"
        yield Remark("deadline", place, said)
        for budget in resolved.budgets:
            where = "all modules" if budget.module is None else place
            yield Remark("budget", where, f"${budget.usd:f} a {budget.per}, {SENTENCES['budget']}")
        if resolved.split:
            yield Remark("split", place, SENTENCES["split"])
        if settings.accept is not None:
            yield Remark("accept", place, f"{settings.accept}, {SENTENCES['accept']}")
        if settings.baseline is not None:
            yield Remark("baseline", place, f"{settings.baseline}, {SENTENCES['baseline']}")
        if settings.cache:
            yield Remark("cache", place, SENTENCES["cache" if self._redis else "no cache"])

    def _of_models(self) -> Iterator[str]:
        yield ""
        yield from commented(
            ["Each model by itself: with no module's limits, and without retries and fallbacks."], "  "
        )
        for name, target in self._models.items():
            group, place = self._groups.get(name), f"models.{name}"
            if group is None:
                yield from self._said(Remark("embedded", place, SENTENCES["embedded"]))
                continue
            if group != name:
                yield from self._said(Remark("name", place, f"{SENTENCES['name']}; the model is {group!r} there"))
            yield from self._entry(group, target, None)

    def _entry(self, group: str, target: Target, resolved: Resolved | None) -> Iterator[str]:
        said: list[Remark] = []
        settings = None if resolved is None else resolved.settings
        asked = parameters(target, settings, self._variables, said.append)
        if self._redis and settings is not None and settings.cache:
            asked["cache"] = {"use-cache": True, "ttl": number(settings.cache_ttl)}
        if target.retired is not None:
            said.append(Remark("retired", f"models.{target.name}", f"on {target.retired}, {SENTENCES['retired']}"))
        # The id comes back with each answer, in a header.
        about = {"id": f"{header(group)} {header(target.name)}", **costs(target, said.append)}
        yield from self._said(*said)
        yield from dumped([{"model_name": group, "litellm_params": asked, "model_info": about}], "  ")

    def _said(self, *remarks: Remark) -> Iterator[str]:
        """Comments, which the summary has once, however often they stand in the file."""
        self._remarks |= dict.fromkeys(remarks)
        return commented([str(each) for each in remarks], "  ")

    # -- the settings

    def _router(self) -> Iterator[str]:
        taken = [alias for alias in self._ends if alias in self._catalog.modules]
        yield from self._said(*(Remark("name", f"aliases.{alias}", SENTENCES["name"]) for alias in taken))
        left_out = [alias for alias, target in self._ends.items() if target.name not in self._groups]
        yield from self._said(*(Remark("embedded", f"aliases.{alias}", SENTENCES["embedded"]) for alias in left_out))
        retries = {
            group: _retries(resolved.settings.retries)
            for resolved in self._modules
            for group in self._links[resolved.module]
            if resolved.settings.retries
        }
        settings = {
            "num_retries": 0,
            "retry_policy": {"DefaultRetries": 0},
            "model_group_retry_policy": retries,
            "retry_after": 0,
            "disable_cooldowns": True,
            "max_fallbacks": max(_FALLBACKS, *map(len, self._links.values())),
            "fallbacks": [{first: rest} for first, *rest in filter(None, self._links.values()) if rest],
            "model_group_alias": {
                alias: self._groups[target.name]
                for alias, target in self._ends.items()
                if alias not in taken and alias not in left_out
            },
        }
        yield from dumped({"router_settings": settings})

    def _litellm(self) -> Iterator[str]:
        settings: dict[str, Any] = {
            "num_retries": 0,
            "request_timeout": number(self._catalog.resolve().settings.timeout),
            "drop_params": True,
            "telemetry": False,
            "turn_off_message_logging": True,
        }
        if self._redis and any(resolved.settings.cache for resolved in self._modules):
            settings["cache"] = True
            settings["cache_params"] = {
                "type": "redis",
                "url": self._variables.key(STORE),
                "namespace": "litellm",
                "mode": "default_off",  # for whose entry says so
                "max_messages": None,
            }
        yield from dumped({"litellm_settings": settings})
        yield ""
        yield from dumped({"general_settings": {"master_key": f"os.environ/{MASTER_KEY}"}})


def _retries(times: int) -> dict[str, int]:
    """No more of what modelrouter sends to the next model at once; for all else the proxy has no finer words."""
    at_once = ("Authentication", "BadRequest", "ContentPolicyViolation", "NotFound", "RateLimit", "Timeout")
    return {**{f"{name}ErrorRetries": 0 for name in at_once}, "DefaultRetries": times}

"""Checks parameters against the typed dictionaries of the installed Stripe client.

The client knows every parameter of every operation, down to the leaves, so what it does not know
is what Stripe would call unknown. A form has only strings; they become what the dictionaries say.
Dictionaries are looked into when a call needs them: there are thousands.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import stripe
import stripe.params
import stripe.params.checkout
from stripe._request_options import RequestOptions
from typing_extensions import is_typeddict

from integrations.sandbox.stripe_errors import StripeRefusal, bad_parameter

# Every shape inherits the options of the client itself, which never reach the wire.
_OPTIONS = frozenset(RequestOptions.__annotations__)
_NAMES_OF_OPTIONS = {"StripeContext": Any, "Mapping": Mapping}


def read_parameters(shape_name: str, form: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a form, as values of the types that the client declares.

    Args:
        shape_name: a typed dictionary of ``stripe.params``, such as ``RefundCreateParams`` or
            ``checkout.SessionCreateParams``.

    Raises:
        StripeRefusal: Stripe would refuse them.

    Example:
        >>> read_parameters("RefundCreateParams", {"amount": "5", "metadata": {"a": "b"}})
        {'amount': 5, 'metadata': {'a': 'b'}}
    """
    return _read_object(_shape_named(shape_name), form, "")


@cache
def _shape_named(name: str) -> Any:
    room: Any = stripe.params
    *rooms, last = name.split(".")
    for inner in rooms:
        room = getattr(room, inner)
    return getattr(room, last)


@cache
def _fields_of(shape: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Its parameters' types, and the names of those that must be there."""
    hints = get_type_hints(shape, localns=_NAMES_OF_OPTIONS, include_extras=True)
    fields: dict[str, Any] = {}
    required = set()
    for name, hint in hints.items():
        if name in _OPTIONS:
            continue
        if get_origin(hint) is NotRequired:
            hint = get_args(hint)[0]
        else:
            required.add(name)
        # A word that Python reserves is written with an underscore.
        fields[name.rstrip("_")] = hint
    return fields, frozenset(required)


def _read_object(shape: Any, form: dict[str, Any], path: str) -> dict[str, Any]:
    fields, required = _fields_of(shape)
    unknown = [name for name in form if name not in fields]
    if unknown:
        raise _unknown(unknown, list(fields), path)
    for name in fields:
        if name in required and name not in form:
            param = _inside(path, name)
            raise bad_parameter(f"Missing required param: {param}.", "parameter_missing", param)
    return {name: _read(fields[name], value, _inside(path, name)) for name, value in form.items()}


def _unknown(names: list[str], known: list[str], path: str) -> StripeRefusal:
    if "payment_method_types" in names and "allowed_payment_method_types" in known and not path:
        return bad_parameter(
            "The payment_method_types parameter is no longer supported. Use "
            "allowed_payment_method_types or excluded_payment_method_types.",
            "payment_method_types_no_longer_supported",
            "payment_method_types",
        )
    params = [_inside(path, name) for name in names]
    message = f"Received unknown parameter{'s' if len(names) > 1 else ''}: {', '.join(params)}"
    close = difflib.get_close_matches(names[0], known, 1, 0.8)
    if len(names) == 1 and close:
        message += f". Did you mean {close[0]}?"
    return bad_parameter(message, "parameter_unknown", params[0])


def _inside(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _read(hint: Any, value: Any, param: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return _read_union(
            [kind for kind in get_args(hint) if kind is not type(None)], value, param
        )
    if is_typeddict(hint):
        if not isinstance(value, dict):
            raise bad_parameter("Invalid object", None, param)
        return _read_object(hint, value, param)
    origin = get_origin(hint)
    if origin is list:
        return _read_list(get_args(hint)[0], value, param)
    if origin is dict:
        if not isinstance(value, dict):
            raise bad_parameter("Invalid object", None, param)
        return {
            key: _read(get_args(hint)[1], inner, f"{param}[{key}]") for key, inner in value.items()
        }
    if isinstance(value, dict):
        raise bad_parameter(f"Invalid {_word(hint)}: {value}", None, param)
    return _read_leaf(hint, value, param)


def _read_union(kinds: list[Any], value: Any, param: str) -> Any:
    # Objects of the client itself stand for dictionaries that are listed, too.
    kinds = [kind for kind in kinds if not _is_class_of_client(kind)]
    if value == "":
        for kind in kinds:
            if get_origin(kind) is Literal and "" in get_args(kind):
                return ""
    nested = [kind for kind in kinds if is_typeddict(kind) or get_origin(kind) in (dict, list)]
    plain = [kind for kind in kinds if kind not in nested]
    words = [word for kind in plain if get_origin(kind) is Literal for word in get_args(kind)]
    if isinstance(value, dict):
        if nested:
            return _read(nested[0], value, param)
    elif value in words:
        return value
    else:
        others = [kind for kind in plain if get_origin(kind) is not Literal]
        if any(words):
            # Beside words, str only says that a later Stripe may know more of them.
            others = [kind for kind in others if kind is not str]
            if not (others and value.lower() in ("true", "false")):
                closed = Literal[tuple(word for word in words if word)]  # type: ignore[valid-type]
                return _read_leaf(closed, value, param)
        if others:
            return _read_leaf(others[0], value, param)
    return _read(nested[0] if nested else plain[0], value, param)


def _is_class_of_client(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, stripe.StripeObject)


def _read_list(kind: Any, value: Any, param: str) -> list[Any]:
    if not isinstance(value, dict):
        raise bad_parameter("Invalid array", None, param)
    return [_read(kind, inner, f"{param}[{place}]") for place, inner in value.items()]


def _word(hint: Any) -> str:
    return {int: "integer", bool: "boolean", float: "decimal"}.get(hint, "string")


def _read_leaf(hint: Any, value: str, param: str) -> Any:
    if get_origin(hint) is Literal:
        words = [word for word in get_args(hint) if word]
        if value in get_args(hint):
            return value
        raise bad_parameter(f"Invalid {param}: must be {_one_of(words)}", None, param)
    if value == "" and hint is not str:
        raise bad_parameter(
            f"You passed an empty string for '{param}'. We assume empty values are an attempt to "
            f"unset a field; however '{param}' cannot be unset. You should remove '{param}' from "
            "your request or supply a non-empty value.",
            "parameter_invalid_empty",
            param,
        )
    if hint is int:
        try:
            return int(value)
        except ValueError:
            message = f"Invalid integer: {value}"
            raise bad_parameter(message, "parameter_invalid_integer", param) from None
    if hint is bool:
        if value.lower() not in ("true", "false"):
            raise bad_parameter(f"Invalid boolean: {value}", None, param)
        return value.lower() == "true"
    if hint is float:
        try:
            return float(value)
        except ValueError:
            raise bad_parameter(f"Invalid decimal: {value}", None, param) from None
    return value


def _one_of(words: list[str]) -> str:
    if len(words) < 3:
        return " or ".join(words)
    return f"one of {', '.join(words[:-1])}, or {words[-1]}"

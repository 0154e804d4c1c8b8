# Copyright: moe.gateway contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of xDS that istiod takes for a gateway: it takes any filter, those that a stock Envoy lacks too.

Its configurations of filters for Go are there as soon as istiod has sent them:

    with Subscriber(gateway, istiod, ["basic_auth.Config"]) as client:
        client.filters["basic_auth.Config"]
"""

from __future__ import annotations

import queue
import threading
import typing as t

import grpc
from control_plane import ECDS, ISTIOD, Gateway, Istiod, Object
from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message, message_factory
from real import TYPE
from xds.type.v3 import typed_struct_pb2

LDS = TYPE + "envoy.config.listener.v3.Listener"
GOLANG = "envoy.extensions.filters.http.golang.v3alpha.Config"


def _golang() -> type[message.Message]:
    """The configuration of Envoy's filter for Go, which is not in the package ``xds-protos``.

    From ``contrib/envoy/extensions/filters/http/golang/v3alpha/golang.proto`` of Envoy 1.40.
    """
    package, _dot, name = GOLANG.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(name="golang.proto", package=package, syntax="proto3")
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    config = file.message_type.add(name=name)
    text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    for number, field in enumerate(("library_id", "library_path", "plugin_name"), 1):
        config.field.add(name=field, number=number, type=text, label="LABEL_OPTIONAL")
    whole = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    anything = f".{any_pb2.Any.DESCRIPTOR.full_name}"
    config.field.add(name="plugin_config", number=4, type=whole, type_name=anything, label="LABEL_OPTIONAL")
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(GOLANG))


GolangConfig = _golang()


def golang(typed: any_pb2.Any) -> Object | None:
    """What an Envoy with that filter would make of a typed configuration, as a mapping; nothing of another filter's."""
    config = GolangConfig()
    if typed.type_url == TYPE + typed_struct_pb2.TypedStruct.DESCRIPTOR.full_name:
        # As Envoy does, by way of JSON; the last part of the URL is the type that is meant.
        struct = typed_struct_pb2.TypedStruct.FromString(typed.value)
        if struct.type_url.rpartition("/")[2] != GOLANG:
            return None
        json_format.ParseDict(json_format.MessageToDict(struct.value), config)
    elif not typed.Unpack(config):
        return None
    return json_format.MessageToDict(config, preserving_proto_field_name=True)


def filters(listener: listener_pb2.Listener) -> t.Iterator[tuple[str, any_pb2.Any]]:
    """The HTTP filters of a listener that have their configuration in it."""
    for chain in listener.filter_chains:
        for part in chain.filters:
            manager = http_connection_manager_pb2.HttpConnectionManager()
            if part.typed_config.Unpack(manager):
                for one in manager.http_filters:
                    yield one.name, one.typed_config


class Subscriber:
    """Subscribes to listeners and some extension configurations, keeps what it gets, and acknowledges all of it."""

    def __init__(self, gateway: Gateway, istiod: Istiod, names: t.Iterable[str]) -> None:
        """
        :param gateway: whose identity it has; its Envoy doesn't run.
        :param names: of the extension configurations.
        """
        #: of Go, by their names or those of the resources with their configuration
        self.filters: dict[str, Object] = {}
        self.listeners: dict[str, bytes] = {}
        self._node = json_format.ParseDict(gateway.bootstrap["node"], base_pb2.Node())
        self._names = {LDS: [], ECDS: list(names)}
        self._requests: queue.SimpleQueue[discovery_pb2.DiscoveryRequest | None] = queue.SimpleQueue()
        files = (gateway.plane.authority.certificate, gateway.pair.key, gateway.pair.certificate)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        options = [("grpc.ssl_target_name_override", ISTIOD)]
        self._channel = grpc.secure_channel(f"{gateway.plane.address}:{istiod.port}", credentials, options)
        self._thread = threading.Thread(target=self._run)

    def _ask(self, type_url: str, answered: discovery_pb2.DiscoveryResponse | None = None) -> None:
        request = discovery_pb2.DiscoveryRequest(
            node=self._node, type_url=type_url, resource_names=self._names[type_url]
        )
        if answered:
            request.version_info, request.response_nonce = answered.version_info, answered.nonce
        self._requests.put(request)

    def _run(self) -> None:
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        try:
            for response in stub.StreamAggregatedResources(iter(self._requests.get, None)):
                for resource in response.resources:
                    self._keep(response.type_url, resource.value)
                self._ask(response.type_url, response)
        except grpc.RpcError as error:
            # So ends a stream whose channel is closed.
            if error.code() != grpc.StatusCode.CANCELLED:
                raise

    def _keep(self, type_url: str, value: bytes) -> None:
        if type_url == LDS:
            listener = listener_pb2.Listener.FromString(value)
            self.listeners[listener.name] = value
            found = filters(listener)
        else:
            extension = extension_pb2.TypedExtensionConfig.FromString(value)
            found = iter([(extension.name, extension.typed_config)])
        self.filters.update((name, config) for name, typed in found if (config := golang(typed)))

    def __enter__(self) -> Subscriber:
        self._thread.start()
        for type_url in self._names:
            self._ask(type_url)
        return self

    def __exit__(self, *_error: object) -> None:
        self._requests.put(None)
        self._channel.close()
        self._thread.join()

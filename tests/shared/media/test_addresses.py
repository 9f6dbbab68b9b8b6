import pytest

from shared.errors import InvalidInput
from shared.media.addresses import Url, is_public, parse_hosts, resolve, split_url


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001:0:53aa:64c::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "ff02::1",
    ],
)
def test_closes_every_address_that_is_not_global_unicast(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700::1111"]
)
def test_leaves_global_unicast_open(address: str) -> None:
    assert is_public(address)


def test_takes_a_url_apart_once() -> None:
    assert split_url("HTTPS://Example.COM.:8443/a b?q=1#part") == Url("https", "example.com", 8443, "/a%20b?q=1")
    assert split_url("http://[2606:4700::1111]/x").netloc == "[2606:4700::1111]"
    assert split_url("https://example.com:443/").netloc == "example.com"
    assert split_url("http://example.com:443/").netloc == "example.com:443"


def test_shows_a_url_without_its_query() -> None:
    assert split_url("https://example.com/a?X-Amz-Signature=secret").without_query == "https://example.com/a"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file:///etc/passwd", "'file' URLs are not read"),
        ("gopher://example.com/", "'gopher' URLs are not read"),
        ("example.com/x", "URLs are not read"),
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://./", "names no host"),
        ("http://user:hunter2@example.com/", "credentials"),
        ("http://user@example.com/", "credentials"),
        ("http://[fe80::1%25eth0]/", "IPv6 zone"),
        ("http://[2606:4700::1111%25lo]/", "IPv6 zone"),
        ("http://a b/", "cannot be read"),
        ("http://example.com:99999/", "cannot be read"),
    ],
)
def test_refuses_urls_that_are_not_plain_http(url: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem) as caught:
        split_url(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1", "localhost", "::1", "0"]
)
def test_resolves_every_spelling_of_this_machine_to_a_closed_address(host: str) -> None:
    addresses = resolve(host, 80)

    assert addresses
    assert not any(is_public(address) for address in addresses)


def test_reads_pairs_of_host_and_port() -> None:
    assert parse_hosts(" Localhost:8000, [::1]:9000,") == {("localhost", 8000), ("::1", 9000)}
    assert parse_hosts("") == frozenset()


@pytest.mark.parametrize("text", ["localhost", "localhost:", ":80", "localhost:http"])
def test_names_the_entry_that_is_not_a_pair(text: str) -> None:
    with pytest.raises(InvalidInput, match="ALLOW_PRIVATE_HOSTS"):
        parse_hosts(text)

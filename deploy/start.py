"""`deploy/up`: from a checkout to a cloud with a server that a person can log in to.

Repeating it changes nothing that is as it should be; after an edit of the code it restarts the
processes that run it, never a guest.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hcloud import Client

from deploy import control, guests, logins, sites, state
from deploy.cloud import Cloud
from deploy.guests import Guest
from deploy.state import Instance
from deploy.steps import Steps
from deploy.supervise import Supervisor


@dataclass(frozen=True)
class Options:
    """`hosts`, `rootless`: how many lab hosts at least, with privileges and without; `guest`:
    what the first server runs, if any. None: as the site has it.
    """

    hosts: int | None
    rootless: int | None
    guest: Guest | None


def up(directory: Path, options: Options) -> None:
    """Bring the cloud of a state directory up and print what runs where."""
    with state.locked(directory), Steps() as steps, ThreadPoolExecutor(1) as builder:
        instance = state.load_or_create(directory)
        site = sites.of(instance)
        hosts, rootless = site.counts(options.hosts, options.rootless)
        guest, why = guests.choose(options.guest)
        for line in (*site.shortcomings(), *why):
            steps.say(f"without root: {line}")
        images = builder.submit(_build_images, steps, guest)
        try:
            if not Supervisor(instance).running():
                instance = state.with_free_ports(instance)
            cloud = Cloud(instance, hosts=hosts, rootless=rootless)
            _bring_up(cloud, steps)
            _hand_over(cloud, steps, images, guest)
        except BaseException:
            if images.running():
                steps.say("stopping after the image that is being built")
            raise


def _build_images(steps: Steps, guest: Guest) -> list[Path]:
    with steps.step("Guest images") as step:
        return guests.build_images(guest, step.progress)


def _bring_up(cloud: Cloud, steps: Steps) -> None:
    with steps.step("Users, directories, copy of the code"):
        cloud.prepare()
    with steps.step(f"PostgreSQL on 127.0.0.1:{cloud.instance.ports.postgres}"):
        cloud.start_broker()
        cloud.start_postgres()
    with steps.step(cloud.site.title([host.name for host in cloud.hosts])):
        cloud.start_lab()
    with steps.step("Database schema, catalogue, address pools"):
        cloud.migrate()
    with steps.step(f"RabbitMQ on 127.0.0.1:{cloud.instance.ports.broker}"):
        cloud.wait_for_broker()
    with steps.step("Queues, join bundles, control plane"):
        cloud.start_control()
        cloud.start_hosts()
        cloud.wait_until_up()


def _hand_over(cloud: Cloud, steps: Steps, images: Future[list[Path]], guest: Guest) -> None:
    instance = cloud.instance
    token = guests.ensure_token(cloud)
    guests.ensure_ssh_key(instance)
    _write_environment(instance, token)
    with steps.step("Hosts joined"):
        cloud.wait_for_hosts(token)
    manifests = images.result()
    api = guests.client(instance, token)
    with steps.step("Images registered and fetched by a host"):
        guests.register(cloud, manifests)
        guests.wait_for_images(instance, api, len(manifests))
    login = None
    if guest is not Guest.NONE:
        login = _first_server(cloud, api, token, steps, guest)
    logins.write_ssh_config(instance, logins.forwarded(instance, token))
    _print_summary(cloud, steps, login)


def _first_server(
    cloud: Cloud, api: Client, token: str, steps: Steps, guest: Guest
) -> logins.Login:
    instance, kind = cloud.instance, guests.KINDS[guest]
    with steps.step(f"Server {guests.FIRST}") as step:
        server, made = guests.ensure_first_server(instance, api, kind)
        login = logins.of_server(instance, token, guests.FIRST)
        step.result = f" at {login.endpoint}, {kind.image if made else 'was there before'}"
    logins.write_ssh_config(instance, logins.forwarded(instance, token))
    if not made and server.status != "running":
        steps.say(f"{guests.FIRST} is {server.status}: left as it is")
        return login
    with steps.step(f"SSH to {login.endpoint}") as step:
        kernel = guests.wait_for_ssh(instance, login.name, seconds=kind.seconds)
        step.result = f" answers: {kernel}"
    return login


def _write_environment(instance: Instance, token: str) -> None:
    values = {
        "HCLOUD_ENDPOINT": instance.api_url,
        "HCLOUD_TOKEN": token,
        "CUMULET_ADMIN_URL": f"{instance.web_url}/admin/",
        "CUMULET_ADMIN_USER": control.ADMIN,
        "CUMULET_ADMIN_PASSWORD": instance.passwords.admin,
        "CUMULET_FLOWER_URL": instance.flower_url,
        "CUMULET_FLOWER_USER": control.FLOWER_USER,
        "CUMULET_FLOWER_PASSWORD": instance.passwords.flower,
        "CUMULET_SSH_KEY": str(instance.state / "ssh" / "id_ed25519"),
        "CUMULET_SSH_CONFIG": str(instance.state / "ssh_config"),
    }
    lines = ["# Written by deploy/up; use it with `. THIS_FILE`.\n"]
    lines += [f"export {name}='{value}'\n" for name, value in values.items()]
    state.write_private(instance.state / "env", "".join(lines))


def _print_summary(cloud: Cloud, steps: Steps, login: logins.Login | None) -> None:
    instance = cloud.instance
    rows = [
        ("API", f"{instance.api_url}   (HCLOUD_TOKEN in the env file below)"),
        ("Admin", f"{instance.web_url}/admin/   {control.ADMIN} / {instance.passwords.admin}"),
        (
            "Flower",
            f"{instance.flower_url}/   {control.FLOWER_USER} / {instance.passwords.flower}",
        ),
        ("Hosts", cloud.site.summary([host.name for host in cloud.hosts])),
        ("Logs", str(instance.log)),
    ]
    if login:
        rows.append(("Log in", f"ssh -F {instance.state}/ssh_config root@{login.name}"))
    rows.append(("Go on", f". {instance.state}/env && hcloud server list"))
    steps.console.print()
    for name, text in rows:
        steps.console.print(f"  [bold]{name:10}[/bold] {text}")
    steps.console.print(f"\nThe cloud is up, {steps.elapsed:.0f} s after the command.")

from django.apps import AppConfig


class NetworksConfig(AppConfig):
    name = "networks"
    verbose_name = "Network"

    def ready(self) -> None:
        from networks import checks as checks  # registers them

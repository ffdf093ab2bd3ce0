from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('vms', '0004_primary_ips'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='nic',
            name='address',
        ),
    ]

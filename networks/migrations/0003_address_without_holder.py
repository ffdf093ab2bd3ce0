from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('networks', '0002_primary_ips'),
        # Writes what the field says into the history of the address.
        ('vms', '0004_primary_ips'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='address',
            name='holder',
        ),
    ]

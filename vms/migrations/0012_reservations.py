from django.db import migrations


class Migration(migrations.Migration):
    """What was reserved by the number of a server is from now on by the row that says why."""

    dependencies = [
        ('networks', '0008_reservation'),
        ('vms', '0011_final_image_failures'),
    ]

    operations = [
        migrations.RunSQL(
            """
            UPDATE networks_withdrawal AS reserved SET holding = row.id FROM vms_holding AS row
            WHERE row.vm_id = reserved.server_id AND reserved.generation = 9007199254740991
            """,
            migrations.RunSQL.noop,
        ),
    ]

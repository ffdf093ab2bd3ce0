from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cloud', '0003_audit'),
    ]

    operations = [
        migrations.AddField(
            model_name='host',
            name='leftovers',
            field=models.JSONField(blank=True, default=list, editable=False, help_text='What its network holds beyond its servers, in words.'),
        ),
    ]

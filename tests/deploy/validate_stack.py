"""Validates a Heat stack with Heat's own engine: TEMPLATE PARAMETERS, the latter as a JSON list of sets.

Prints a JSON list: for each set the properties of each resource as Heat evaluates them, or the error as text. A
reference to another resource becomes the name of that resource. No cloud is used: facts that only a cloud knows, such as whether an
image exists, count as true.
"""

import json
import logging
import os
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

from heat.common import context, exception, template_format
from heat.engine import environment, resource, resources, stack, template
from heat.engine.clients.os import glance, nova
from heat.engine.clients.os.neutron import neutron_constraints
from heat.engine.resources import template_resource
from heat.engine.resources.openstack.heat import resource_group
from heat.engine.resources.openstack.nova import server


def take_for_granted():
    for constraint in (
        glance.ImageConstraint,
        nova.FlavorConstraint,
        neutron_constraints.NetworkConstraint,
        neutron_constraints.SubnetConstraint,
    ):
        constraint.validate = lambda self, value, context: True
    resource.Resource.is_service_available = classmethod(lambda cls, context: (True, None))
    server.Server._validate_image_flavor = lambda self, image, flavor: None
    resource_group.ResourceGroup._name_skiplist = lambda self: set()
    template_resource.TemplateResource.get_reference_id = lambda self: self.name
    nova.NovaClientPlugin.is_version_supported = lambda self, version: True
    nova.NovaClientPlugin.absolute_limits = lambda self: {"maxServerMeta": 128}


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def parsed(path, parameters):
    folder = os.path.dirname(path)
    names = [name for name in os.listdir(folder) if name.endswith(".yaml")]
    return template.Template(
        template_format.parse(read(path)),
        files={name: read(os.path.join(folder, name)) for name in names},
        env=environment.Environment({"parameters": parameters}),
    )


def validated(wanted):
    user = context.RequestContext(project_id="project", username="user", is_admin=False)
    made = stack.Stack(user, "stack", wanted)
    made.parameters.validate(context=user, validate_value=True)
    # References between resources have no values yet.
    made.strict_validate = False
    made.validate()
    for found in made.values():
        # What refers to no other resource has its values already.
        if not list(found.t.dependencies(made)):
            found.properties.validate(with_value=True)
    return made


def shown(made):
    for name, found in made.items():
        found.resource_id = name
        if found.type() == "OS::Heat::Value":
            found.action, found.status = found.CREATE, found.COMPLETE
    made._update_all_resource_data(for_resources=True, for_outputs=False)
    for name, found in made.items():
        properties = found.t.properties(found.properties_schema, found.context)
        values = {key: properties[key] for key in properties}
        yield name, {"type": found.type(), "properties": values}


def evaluated(path, parameters):
    try:
        return dict(shown(validated(parsed(path, parameters))))
    except exception.StackValidationFailed as error:
        return str(error)


resources.initialise()
take_for_granted()
json.dump([evaluated(sys.argv[1], one) for one in json.loads(sys.argv[2])], sys.stdout)

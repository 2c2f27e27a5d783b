"""Prints template.yaml as CloudFormation gets it: after the SAM transform.

The translator is SAM's own; `sam validate` runs it, too, but keeps the result to
itself, and linters that read the template before it see little of what is deployed.
"""

import json
import sys

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

REGION = "eu-west-1"


def transformed(template: dict) -> dict:
    parameters = {
        name: parameter["Default"]
        for name, parameter in template["Parameters"].items()
        if "Default" in parameter
    }
    parameters |= {"AWS::Region": REGION, "AWS::Partition": "aws"}
    # What `sam build` and `sam package` would put there.
    template["Globals"]["Function"].pop("CodeUri")
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://artifacts/function.zip"
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    return translator.translate(template, parameters)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        json.dump(transformed(yaml_parse(file)), sys.stdout, indent=1)

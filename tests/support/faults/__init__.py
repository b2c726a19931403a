"""Every way an endpoint can go wrong, by name, and what the contract expects of each.

    endpoint.plan = FAULTS["cut_body"].plan              # at every attempt
    endpoint.plan = healing(FAULTS["cut_body"].plan, 2)  # at the first two of each body
    endpoint.plan = day = Mixed(seed=7)                  # thousands of rows; day.expected(prompt)

The rule where bytes are broken: "connection" when the end of the answer that HTTP promised did not
come, "bad_response" when a whole 200 came that is no chat completion.
"""

from support.faults.fault import Fault
from support.faults.mixed import FAULTS, Mixed

__all__ = ["FAULTS", "Fault", "Mixed"]

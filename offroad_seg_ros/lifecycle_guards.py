"""Two things that rclpy's managed nodes leave to their authors."""

from __future__ import annotations

from collections.abc import Callable
import functools
import traceback

from lifecycle_msgs.srv import ChangeState
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

Transition = Callable[[LifecycleNode, LifecycleState], TransitionCallbackReturn]


def tell_errors(transition: Transition) -> Transition:
    """Log what a transition raises: rclpy turns it into an ERROR without a word."""

    @functools.wraps(transition)
    def told(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            if node.context.ok():  # publishing fails while the process is being ended
                node.get_logger().error(f'{transition.__name__} failed\n{traceback.format_exc()}')
            raise

    return told


def refuse_invalid_transitions(node: LifecycleNode) -> None:
    """Answer a request that the state does not allow with success=false.

    rclpy raises RCLError out of the service callback instead, which ends the process.
    """
    service = node._service_change_state
    change_state = service.callback

    def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except rclpy_implementation.RCLError as error:
            if not node.context.ok():
                raise
            node.get_logger().warning(f'transition refused: {error}')
            response.success = False
            return response

    service.callback = answer

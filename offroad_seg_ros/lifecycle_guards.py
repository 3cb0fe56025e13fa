"""Two things that rclpy's managed nodes leave to their authors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
import functools
import traceback

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

Callback = Callable[[LifecycleNode, LifecycleState], TransitionCallbackReturn]


def tell_errors(transition: Callback) -> Callback:
    """Log what a transition raises: rclpy turns it into an ERROR without a word.

    The node's method `tell_failure` gets it, too.
    """

    @functools.wraps(transition)
    def told(node: LifecycleNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            name = transition.__name__.removeprefix('on_')
            node.tell_failure(f'{name} failed: {type(error).__name__}: {error}')
            if node.context.ok():  # publishing fails while the process is being ended
                node.get_logger().error(f'{transition.__name__} failed\n{traceback.format_exc()}')
            raise

    return told


def refuse_invalid_transitions(
    node: LifecycleNode, prepare: Callable[[], Awaitable[bool]]
) -> None:
    """Answer a request that the state does not allow with success=false.

    rclpy raises RCLError out of the service callback instead, which ends the process.

    Args:
        node: whose service it is.
        prepare: awaited before a configure; False refuses it.
    """
    service = node._service_change_state
    change_state = service.callback

    async def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            if _is_configure(node, request) and not await prepare():
                response.success = False
                return response
            return change_state(request, response)
        except rclpy_implementation.RCLError as error:
            if not node.context.ok():
                raise
            node.get_logger().warning(f'transition refused: {error}')
            response.success = False
            return response

    service.callback = answer
    # A callback that waits keeps the others of its group waiting.
    service.callback_group = ReentrantCallbackGroup()
    service.callback_group.add_entity(service)


def _is_configure(node: LifecycleNode, request: ChangeState.Request) -> bool:
    asked = request.transition
    is_named = asked.label == 'configure' or asked.id == Transition.TRANSITION_CONFIGURE
    return is_named and node._state_machine.current_state[0] == State.PRIMARY_STATE_UNCONFIGURED
